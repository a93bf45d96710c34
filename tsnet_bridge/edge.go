package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// retryAfter is what a caller is told when we are full or the parent is away.
const retryAfter = "5"

// answerTimeout is what an answer of ours gets after the request's own time.
const answerTimeout = 5 * time.Second

// edge is the public side: it lets one method on one path through, within
// limits, before a byte wakes the parent. From inside the tailnet it lets
// some pages be read as well.
type edge struct {
	cfg     config
	log     *slog.Logger
	proxy   http.Handler
	server  *http.Server
	sources *sources
	probes  sync.Map // answers to looks at our own address, by nonce
	port    string

	// ownName is the one Host that is served; none, or an empty one: any.
	ownName atomic.Pointer[string]
	// whoIs asks the backend who a caller inside the tailnet is; none: nobody is known.
	whoIs atomic.Pointer[whoIs]

	open       atomic.Int64 // connections now
	accepted   atomic.Int64
	unread     [unreads]atomic.Int64
	handshakes [handshakeReasons]atomic.Int64
	timeouts   [timeoutPhases]atomic.Int64
	requests   [outcomes]atomic.Int64
	parentAway atomic.Bool

	turnedAwayAt atomic.Int64 // Unix nanoseconds
	noise        rate.Sometimes
}

func newEdge(cfg config, log *slog.Logger) *edge {
	e := &edge{cfg: cfg, log: log, sources: newSources(cfg.Limits), port: strconv.Itoa(cfg.Port)}
	e.noise.Interval = time.Second
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
		MaxHeaderBytes:               cfg.Limits.MaxHeader, // the gate is at it before
		ErrorLog:                     slogLines(e.serverError),
		ConnContext:                  withConn,
		ConnState:                    e.connChanged,
	}
	return e
}

// serve accepts until the listener is closed.
func (e *edge) serve(ln net.Listener) error {
	return e.server.Serve(publicListener{ln, e})
}

// ServeHTTP answers what need not reach the parent and forwards the rest.
func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := connOf(r.Context())
	c.answered.Store(true)
	// The request line is compared as it came: no decoding, no cleaning.
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if e.answerProbe(w, r, c, path) {
		return
	}
	now := time.Now()
	within := c.from.take(now)
	switch {
	case c.over:
		e.answer(w, r, outcomeBusy, http.StatusServiceUnavailable)
	case !within:
		w.Header().Set("Retry-After", c.from.retryAfter(now))
		e.answer(w, r, outcomeLimited, http.StatusTooManyRequests)
	case !e.isOwn(r.Host):
		e.answer(w, r, outcomeNotFound, http.StatusNotFound)
	case path == e.cfg.WebhookPath && r.Method == http.MethodPost:
		e.deliver(w, r, c)
	case c.tailnet && slices.Contains(e.cfg.TailnetPaths, path) && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		e.show(w, r, c)
	default:
		e.answer(w, r, outcomeNotFound, http.StatusNotFound)
	}
}

// isOwn reports whether a Host is our name, with our port or none.
func (e *edge) isOwn(host string) bool {
	own := e.ownName.Load()
	if own == nil || *own == "" {
		return true
	}
	name, port, given := strings.Cut(host, ":")
	return strings.EqualFold(strings.TrimSuffix(name, "."), *own) && (!given || port == e.port)
}

// deliver takes what may be a delivery.
func (e *edge) deliver(w http.ResponseWriter, r *http.Request, c *publicConn) {
	switch {
	case len(r.Header["Content-Length"]) == 0:
		e.answer(w, r, outcomeMalformed, http.StatusLengthRequired)
	case r.ContentLength > e.cfg.Limits.MaxBody:
		e.answer(w, r, outcomeTooLarge, http.StatusRequestEntityTooLarge)
	default:
		e.forward(w, r, c)
	}
}

// show lets a member of the tailnet read a page.
func (e *edge) show(w http.ResponseWriter, r *http.Request, c *publicConn) {
	if r.ContentLength != 0 {
		e.answer(w, r, outcomeMalformed, http.StatusBadRequest)
		return
	}
	e.forward(w, r, c)
}

// answer ends a request here, and its connection: an idle one of a scanner would
// take the place of a caller. The server reads on in a body that it has begun
// to take; that is cut short.
func (e *edge) answer(w http.ResponseWriter, r *http.Request, o outcome, code int) {
	e.requests[o].Add(1)
	if r.ContentLength > 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTime))
	}
	w.Header().Set("Connection", "close")
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(code)
}

// expectProbe makes the edge answer one nonce, until forget is called. Only who
// asks this process gets that answer.
func (e *edge) expectProbe(nonce string) (answer string, forget func()) {
	answer = rand.Text()
	e.probes.Store(nonce, answer)
	return answer, func() { e.probes.Delete(nonce) }
}

// answerProbe answers a look that came through the Funnel, whatever the limits
// say: it must tell a path that is down from one that is full. From inside the
// tailnet it would prove nothing.
func (e *edge) answerProbe(w http.ResponseWriter, r *http.Request, c *publicConn, path string) bool {
	nonce, is := strings.CutPrefix(path, probePrefix)
	if !is || c.tailnet || r.Method != http.MethodGet || !e.isOwn(r.Host) {
		return false
	}
	answer, expected := e.probes.Load(nonce)
	if !expected {
		return false
	}
	e.requests[outcomeProbe].Add(1)
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, answer.(string)) // who asked may be gone
	return true
}

// forward sends the request to the parent, for less time than the connection
// has for its answer: so that a parent that hangs still becomes a 503.
func (e *edge) forward(w http.ResponseWriter, r *http.Request, c *publicConn) {
	if c.tailnet {
		if _, err := c.caller(r.Context()); err != nil {
			e.answer(w, r, outcomeForbidden, http.StatusForbidden)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.cfg.Limits.WriteTimeout*9/10)
	defer cancel()
	body := &watchedBody{ReadCloser: r.Body}
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
	switch {
	case slow, isTimeout(broken):
		e.answer(w, r, outcomeTimeout, http.StatusRequestTimeout)
	case broken != nil, errors.Is(r.Context().Err(), context.Canceled):
		e.requests[outcomeAborted].Add(1)
		panic(http.ErrAbortHandler) // nobody is there to read an answer
	default:
		// Said once: a parent that hangs does not read our log either, and a
		// full pipe would hold us up with it.
		if e.parentAway.CompareAndSwap(false, true) {
			e.log.Warn("edge.parent_lost", "error", err.Error())
		}
		e.answer(w, r, outcomeUnavailable, http.StatusServiceUnavailable)
	}
}

// serverError passes on what net/http says. A panic is our own mistake.
func (e *edge) serverError(line string) {
	if strings.Contains(line, "panic serving") {
		e.log.Error("edge.panicked", "error", line)
		return
	}
	e.say("edge.connection_failed", "error", line)
}

// say logs what scanners do by the thousand: one line a second of it. The
// counters have all of it.
func (e *edge) say(event string, attributes ...any) {
	e.noise.Do(func() { e.log.Debug(event, attributes...) })
}

// slogLines is a log.Logger that hands each line to f.
func slogLines(f func(string)) *log.Logger { return log.New(lineWriter(f), "", 0) }

type lineWriter func(string)

// Write hands one line on.
func (f lineWriter) Write(p []byte) (int, error) {
	f(strings.TrimSpace(string(p)))
	return len(p), nil
}
