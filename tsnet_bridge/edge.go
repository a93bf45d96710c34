package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"tailscale.com/ipn"
)

// retryAfter is what a caller is told when we are full or the parent is away.
const retryAfter = "5"

// answerTimeout is what an answer of ours gets after the request's own time.
const answerTimeout = 5 * time.Second

// outcome is how a request at the edge ended; a label of the metrics.
type outcome int

const (
	outcomeForwarded outcome = iota
	outcomeNotFound
	outcomeTooLarge
	outcomeBusy
	outcomeTimeout
	outcomeUnavailable
	outcomeAborted
	outcomes // how many there are
)

// String is the metric's label.
func (o outcome) String() string {
	return [outcomes]string{"forwarded", "not_found", "too_large", "busy", "timeout", "unavailable", "aborted"}[o]
}

// edge is the public side: it lets one method on one path through, within
// limits, before a byte wakes the parent.
type edge struct {
	cfg    config
	log    *slog.Logger
	proxy  http.Handler
	server *http.Server

	open            atomic.Int64 // connections now
	accepted        atomic.Int64
	refused         atomic.Int64 // closed unread, twice over the limit
	handshakeErrors atomic.Int64
	requests        [outcomes]atomic.Int64
	parentAway      atomic.Bool
}

func newEdge(cfg config, log *slog.Logger) *edge {
	e := &edge{cfg: cfg, log: log}
	e.proxy = newProxy(cfg.AppSocket, e.answered, e.failed)
	plain := new(http.Protocols)
	plain.SetHTTP1(true) // h2 costs 1.4 times the CPU and brings nothing here
	e.server = &http.Server{
		Handler:                      e,
		Protocols:                    plain,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            cfg.Limits.ReadHeaderTimeout,
		ReadTimeout:                  cfg.Limits.ReadTimeout,
		WriteTimeout:                 cfg.Limits.WriteTimeout,
		IdleTimeout:                  cfg.Limits.IdleTimeout,
		MaxHeaderBytes:               cfg.Limits.MaxHeader,
		ErrorLog:                     slogLines(e.serverError),
		ConnContext:                  e.connOpened,
		ConnState:                    e.connChanged,
	}
	return e
}

// serve accepts until the listener is closed.
func (e *edge) serve(ln net.Listener) error {
	return e.server.Serve(cappedListener{ln, e})
}

// caller is what is known of a connection when its first request comes.
type caller struct {
	addr  netip.Addr // invalid: not a Funnel connection
	extra bool       // over the limit: answer 503
}

type callerKey struct{}

// connOpened runs in the accept loop, once for each connection. RemoteAddr is
// the relay's; the true client is in the Funnel connection under the TLS one.
func (e *edge) connOpened(ctx context.Context, c net.Conn) context.Context {
	e.accepted.Add(1)
	now := caller{extra: e.open.Add(1) > int64(e.cfg.Limits.MaxConnections)}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if f, ok := c.(*ipn.FunnelConn); ok {
		now.addr = f.Src.Addr().Unmap()
	}
	return context.WithValue(ctx, callerKey{}, now)
}

func (e *edge) connChanged(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		e.open.Add(-1)
	}
}

// cappedListener closes connections unread when there are twice as many as
// allowed. Up to there each gets its 503, which costs a handshake. It never
// holds an accept back: tsnet drops what waits for a second.
type cappedListener struct {
	net.Listener
	e *edge
}

// Accept returns the next connection that is worth an answer.
func (l cappedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.e.open.Load() < 2*int64(l.e.cfg.Limits.MaxConnections) {
			return c, err
		}
		l.e.refused.Add(1)
		c.Close()
	}
}

// Close does nothing: endSession closes the listener, in its order and bounded.
// The server would wait for it while holding a lock.
func (l cappedListener) Close() error { return nil }

// ServeHTTP answers what need not reach the parent and forwards the rest.
func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The request line is compared as it came: no decoding, no cleaning.
	path, _, _ := strings.Cut(r.RequestURI, "?")
	switch from, _ := r.Context().Value(callerKey{}).(caller); {
	case path != e.cfg.WebhookPath || r.Method != http.MethodPost:
		e.answer(w, outcomeNotFound, http.StatusNotFound)
	case from.extra:
		e.answer(w, outcomeBusy, http.StatusServiceUnavailable)
	case r.ContentLength > e.cfg.Limits.MaxBody:
		e.answer(w, outcomeTooLarge, http.StatusRequestEntityTooLarge)
	default:
		e.forward(w, r)
	}
}

// answer ends a request here, and its connection: an idle one of a scanner would
// take the place of a caller, and the server would have to read a body first.
func (e *edge) answer(w http.ResponseWriter, o outcome, code int) {
	e.requests[o].Add(1)
	w.Header().Set("Connection", "close")
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(code)
}

// forward sends the request to the parent, for less time than the connection
// has for its answer: so that a parent that hangs still becomes a 503.
func (e *edge) forward(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), e.cfg.Limits.WriteTimeout*9/10)
	defer cancel()
	body := &watchedBody{ReadCloser: http.MaxBytesReader(w, r.Body, e.cfg.Limits.MaxBody)}
	// The transport waits for a read of the body to end before it gives up.
	unwatch := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) && body.waiting.Load() {
			body.late.Store(true)
			_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		}
	})
	defer unwatch()
	r = r.WithContext(context.WithValue(ctx, bodyKey{}, body))
	r.Body = body
	e.proxy.ServeHTTP(w, r)
}

type bodyKey struct{}

// watchedBody remembers why the caller's body broke off: the transport wraps
// or replaces that error on its way.
type watchedBody struct {
	io.ReadCloser
	err     atomic.Pointer[error]
	waiting atomic.Bool // for the caller, not for the parent
	late    atomic.Bool // it was still waiting when the time was over
}

// Read reads on and keeps the first error that is not the end.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.waiting.Store(true)
	defer b.waiting.Store(false)
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *watchedBody) failed() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

// answered counts what the parent answered, whatever it said. What it is made
// with is nobody's business.
func (e *edge) answered(res *http.Response) error {
	e.requests[outcomeForwarded].Add(1)
	if e.parentAway.CompareAndSwap(true, false) {
		e.log.Info("edge.parent_returned")
	}
	res.Header.Del("Server")
	return nil
}

// failed answers a request that did not come through: the body's fault, the
// caller's, or the parent's.
func (e *edge) failed(w http.ResponseWriter, r *http.Request, err error) {
	var broken error
	slow := false
	if body, ok := r.Context().Value(bodyKey{}).(*watchedBody); ok {
		slow = body.late.Load()
		broken = body.failed()
	}
	// The answer gets its own time: the caller's may be over, and a TLS record
	// that is cut off is noise.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	_, tooLarge := errors.AsType[*http.MaxBytesError](broken)
	late, isNet := errors.AsType[net.Error](broken)
	switch {
	case tooLarge:
		e.answer(w, outcomeTooLarge, http.StatusRequestEntityTooLarge)
	case slow, isNet && late.Timeout():
		e.answer(w, outcomeTimeout, http.StatusRequestTimeout)
	case broken != nil, errors.Is(r.Context().Err(), context.Canceled):
		e.requests[outcomeAborted].Add(1)
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	default:
		// Said once: a parent that hangs does not read our log either, and a
		// full pipe would hold us up with it.
		if e.parentAway.CompareAndSwap(false, true) {
			e.log.Warn("edge.parent_lost", "error", err.Error())
		}
		e.answer(w, outcomeUnavailable, http.StatusServiceUnavailable)
	}
}

// serverError counts what net/http says about handshakes: bots by the thousand.
func (e *edge) serverError(line string) {
	if strings.Contains(line, "TLS handshake error") {
		e.handshakeErrors.Add(1)
	}
	e.log.Debug("edge.connection_failed", "error", line)
}

// slogLines is a log.Logger that hands each line to f.
func slogLines(f func(string)) *log.Logger { return log.New(lineWriter(f), "", 0) }

type lineWriter func(string)

// Write hands one line on.
func (f lineWriter) Write(p []byte) (int, error) {
	f(strings.TrimSpace(string(p)))
	return len(p), nil
}
