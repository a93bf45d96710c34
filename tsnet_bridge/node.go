package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/net/netns"
)

const (
	pollEvery   = 5 * time.Second
	callTimeout = 10 * time.Second
	startAgain  = 30 * time.Second
	watchAgain  = time.Second
	pingTimeout = 5 * time.Second
	pingsAtOnce = 16
	maxPinged   = 256
	// lockPatience is what a predecessor may need beyond its grace to end.
	lockPatience = 5 * time.Second
)

// node drives one tsnet server from its signals: it collects them, asks
// classify what they mean, publishes that, and does the next step. One
// goroutine owns it; all others post to it.
type node struct {
	cfg    config
	log    *slog.Logger
	board  *board
	edge   *edge
	issuer *issuer
	tls    *tls.Config
	events chan func()
	done   chan struct{} // closed when events are no longer taken

	ingressDenied       atomic.Int64
	ingressUnconfigured atomic.Int64

	// Owned by run's goroutine from here.
	seen    signals
	session *session
	ips     []string
	failed  bool
	// keyDropped is set for good when a key that was kept back is refused.
	keyDropped bool
}

func newNode(cfg config, log *slog.Logger, b *board, e *edge) *node {
	if cfg.Loopback {
		netns.SetEnabled(false)
	}
	i := newIssuer(cfg, log)
	return &node{
		cfg: cfg, log: log, board: b, edge: e, issuer: i, tls: i.tlsConfig(),
		events: make(chan func(), 64),
		done:   make(chan struct{}),
	}
}

// run brings the node up and keeps it up until ctx ends; then it drains.
func (n *node) run(ctx context.Context) {
	lock, err := openStateDir(ctx, n.cfg.StateDir, n.cfg.Grace+lockPatience)
	switch {
	case err == nil:
		defer lock.Close()
		n.begin(!enrolled(n.cfg.StateDir))
	case ctx.Err() == nil:
		n.publish(faultVerdict(err))
		n.failed = true
	}
	n.loop(ctx)
	close(n.done)
	n.drain()
}

func (n *node) loop(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-n.events:
			f()
		case <-tick.C:
			n.refresh()
		}
		n.step()
	}
}

// post runs f in the node's goroutine, unless its session is over by then.
func (n *node) post(s *session, f func()) {
	guarded := func() {
		if n.session == s {
			f()
		}
	}
	select {
	case n.events <- guarded:
	case <-n.done:
	}
}

// step says what the signals mean now and does what follows from it.
func (n *node) step() {
	s := n.session
	if n.failed || s == nil {
		return
	}
	n.seen.Now, n.seen.OfflineFor = time.Now(), 0
	n.seen.KeyKept, n.seen.KeyDropped = n.cfg.AuthKey != "" && !s.keyGiven && !n.keyDropped, n.keyDropped
	if !s.offlineSince.IsZero() {
		n.seen.OfflineFor = time.Since(s.offlineSince)
	}
	v := classify(n.seen)
	if v.Code == codeAuthKeyRejected && s.keyOffered {
		n.dropKey(s)
		return
	}
	if why := n.outlived(); why != "" {
		n.log.Warn("node.restarted", "why", why)
		n.restart(false)
		return
	}
	n.publish(v)
	switch {
	case v.State == stateFailed:
		n.failed = true
		n.endSession(0)
	case s.lc == nil:
	case n.wantsLogin():
		n.login(s)
	case n.seen.Backend == ipn.Running && n.seen.DNSName != "":
		n.serve(s)
	}
}

// wantsLogin reports whether only a login can help: control wants one, or has
// removed the node.
func (n *node) wantsLogin() bool {
	if n.session.loginAsked {
		return false
	}
	return n.seen.deleted() || n.seen.Backend == ipn.NeedsLogin && (n.seen.BrowseURL != "" || n.seen.WasRunning)
}

// login hands over the key that was kept back, or asks for a login address.
func (n *node) login(s *session) {
	s.loginAsked = true
	useKey := n.seen.KeyKept
	if !useKey && n.seen.BrowseURL != "" {
		return
	}
	n.log.Info("node.login_asked", "with_key", useKey)
	if useKey && isOAuth(n.cfg.AuthKey) {
		s.keyOffered = true
		n.restart(true) // only tsnet's start turns the secret into a key
		return
	}
	s.keyGiven, s.keyOffered = s.keyGiven || useKey, useKey
	key := secret("")
	if useKey {
		key = n.cfg.AuthKey
	}
	n.askLogin(s, useKey, key)
}

// dropKey forgets a key that was kept back and proved stale: the node was good
// without it, so that a person can still log it in, or extend its own key.
func (n *node) dropKey(s *session) {
	n.log.Warn("node.key_dropped", "error", n.seen.ErrMessage)
	n.keyDropped, s.keyOffered = true, false
	if isOAuth(n.cfg.AuthKey) {
		n.restart(false)
		return
	}
	delete(n.seen.Health, healthLogin)
	n.askLogin(s, true, "")
}

// askLogin asks control for a login; setKey first replaces the key that the
// backend offers to it.
func (n *node) askLogin(s *session, setKey bool, key secret) {
	n.seen.BrowseURL, n.seen.ErrMessage = "", ""
	go func() {
		if setKey {
			if err := s.lc.Start(s.ctx, ipn.Options{AuthKey: string(key)}); err != nil {
				n.log.Warn("node.login_failed", "error", err.Error())
			}
		}
		if err := s.lc.StartLoginInteractive(s.ctx); err != nil {
			n.log.Warn("node.login_failed", "error", err.Error())
		}
	}()
}

// outlived says why this tsnet server can serve no longer, or nothing. Its
// listener for the relays does not come back with the approval, and its Funnel
// stays with the name that the tailnet had.
func (n *node) outlived() string {
	s := n.session
	switch {
	case n.seen.Backend != ipn.Running:
		return ""
	case s.unapproved:
		return "the node was approved again"
	case s.issuingFor != "" && len(n.seen.CertDomains) > 0 && n.seen.CertDomains[0] != s.issuingFor && n.seen.given() == n.cfg.Hostname:
		return "the tailnet was renamed"
	}
	return ""
}

// serve goes from a running node to an open Funnel, as far as it can today.
func (n *node) serve(s *session) {
	if !s.greeted {
		s.greeted = true
		go n.greet(s)
	}
	if len(n.seen.CertDomains) == 0 || strings.HasPrefix(n.seen.AccessError, textNoHTTPS) {
		return
	}
	// The certificate is asked for while the attribute may still be missing.
	if domain := n.seen.CertDomains[0]; s.issuingFor == "" {
		s.issuingFor = domain
		go n.issuer.run(s.ctx, domain, func(r certReport) { n.post(s, func() { n.certified(r) }) })
	}
	if n.seen.CertNotAfter.IsZero() || n.seen.AccessError != "" || s.ln != nil || s.opening || time.Now().Before(s.openAfter) {
		return
	}
	s.opening = true
	go func() {
		ln, err := openFunnel(s.ctx, s.srv, n.cfg.Port, n.tls)
		if err == nil && s.ctx.Err() != nil {
			ln.Close() // nobody waits for it any more
			return
		}
		n.post(s, func() { n.opened(s, ln, err) })
	}()
}

func (n *node) certified(r certReport) {
	n.seen.CertError, n.seen.CertRateLimited, n.seen.CertRetryAt = "", r.limited, r.retryAt
	if r.err != nil {
		n.seen.CertError = r.err.Error()
		return
	}
	n.seen.CertNotAfter = r.cert.notAfter()
}

func (n *node) opened(s *session, ln net.Listener, err error) {
	s.opening = false
	if err != nil {
		n.seen.ListenError, s.openAfter = err.Error(), time.Now().Add(listenAgain)
		return
	}
	n.seen.ListenError, n.seen.Listening, s.ln = "", true, ln
	go func() {
		err := n.edge.serve(ln)
		n.log.Debug("funnel.closed", "error", err.Error())
		n.post(s, func() { n.seen.Listening, s.ln = false, nil })
	}()
}

func faultVerdict(err error) verdict {
	if f, ok := err.(*fault); ok {
		return verdict{stateFailed, f.Code, f.Message, f.Hint}
	}
	return verdict{stateFailed, codeNodeStartFailed, err.Error(), ""}
}

// publish puts the verdict and what is known of the node on the board, and in
// the log when it is news.
func (n *node) publish(v verdict) {
	before := n.board.current().AuthURL
	moved := n.board.update(func(d *status) {
		d.State, d.Code, d.Message, d.Hint = v.State, v.Code, v.Message, v.Hint
		d.URL, d.AuthURL = "", ""
		if cert := n.issuer.current.Load(); cert != nil {
			d.Cert = certStatus{secondsOrNil(cert.notAfter()), secondsOrNil(cert.renewAt())}
			if v.State == stateReady || v.State == stateDegraded {
				d.URL = publicURL(cert.domain, n.cfg.Port, n.cfg.WebhookPath)
			}
		}
		if v.State == stateAuthenticating || v.Code == codeNodeDeleted {
			d.AuthURL = n.seen.BrowseURL
		}
		d.Node = nodeStatus{n.seen.DNSName, nonNil(n.ips), secondsOrNil(n.seen.KeyExpiry), nonNil(n.seen.Tags)}
	})
	if doc := n.board.current(); moved || doc.AuthURL != before && doc.AuthURL != "" {
		logStatus(n.log, doc)
	}
}

// logStatus says a state or, when there is one, its code: bridge.needs_login.
func logStatus(log *slog.Logger, d status) {
	name, level := d.State, slog.LevelInfo
	if d.Code != "" {
		name, level = strings.ToLower(d.Code), slog.LevelWarn
	}
	if d.State == stateFailed {
		level = slog.LevelError
	}
	attrs := []slog.Attr{slog.String("state", d.State)}
	for _, a := range []slog.Attr{
		slog.String("code", d.Code), slog.String("message", d.Message), slog.String("hint", d.Hint),
		slog.String("url", d.URL), slog.String("auth_url", d.AuthURL),
	} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	log.LogAttrs(context.Background(), level, "bridge."+name, attrs...)
}

func publicURL(domain string, port int, path string) string {
	if port == 443 {
		return "https://" + domain + path
	}
	return fmt.Sprintf("https://%s:%d%s", domain, port, path)
}

func nonNil(list []string) []string { return append([]string{}, list...) }

// drain is the orderly end, from any state.
func (n *node) drain() {
	end := func(state string) {
		n.board.update(func(d *status) {
			d.State, d.Code, d.Message, d.Hint, d.URL, d.AuthURL = state, "", "", "", "", ""
		})
		logStatus(n.log, n.board.current())
	}
	end(stateDraining)
	n.endSession(n.cfg.Grace)
	end(stateStopped)
}

// metrics is the whole exposition for Prometheus.
func (n *node) metrics() string {
	var x exposition
	x.writeStatus(n.board.current())
	x.writeEdge(n.edge)
	x.one("cert_failures_total", "counter", "Failed attempts to get or renew the certificate.", float64(n.issuer.failures.Load()))
	x.one("ingress_denied_total", "counter", "Ingress connections that the packet filter refused.", float64(n.ingressDenied.Load()))
	x.one("ingress_unconfigured_total", "counter", "Ingress connections for a name that is not ours.", float64(n.ingressUnconfigured.Load()))
	return x.String()
}
