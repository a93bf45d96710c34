package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/net/netns"
)

const (
	callTimeout = 10 * time.Second
	startAgain  = 30 * time.Second
	watchAgain  = time.Second
	pingTimeout = 5 * time.Second
	// pathTimeout is how long a way to a peer is looked for, pathAgain how long
	// one try of that may take.
	pathTimeout = 1500 * time.Millisecond
	pathAgain   = 100 * time.Millisecond
	// afterYou is how long a peer may begin a handshake before we do.
	afterYou = 50 * time.Millisecond
	// greetTimeout is how long the first look waits for peers to be greeted.
	greetTimeout = 2 * time.Second
	pingsAtOnce  = 16
	maxPinged    = 256
	// lockPatience is what a predecessor may need beyond its grace to end.
	lockPatience = 5 * time.Second
	// orphanGrace is for the requests in flight when the parent is dead: nobody
	// answers them any more.
	orphanGrace = 100 * time.Millisecond
	// trimEvery and trimWorth keep an idle process from collecting for nothing.
	trimEvery = time.Minute
	trimWorth = 50
	// maxLogins bounds how often a key is handed over by login in loginPeriod: a
	// tailnet that keeps throwing us out is a person's business.
	maxLogins   = 3
	loginPeriod = time.Hour
)

// pace is how often things are looked at, and how long they may last before they
// mean something. The local tailnet is near and its tests are short.
type pace struct {
	poll    time.Duration // between two readings of the node's status
	offline time.Duration // from when on an absent control means something
	look    time.Duration // to the next look after one that failed
	first   time.Duration // that a look may take before the first answer
	later   time.Duration // and after it
	mint    time.Duration // to the next try to get an auth key made
}

func paceOf(cfg config) pace {
	if cfg.Loopback != "" {
		return pace{poll: 500 * time.Millisecond, offline: 2 * time.Second, look: 300 * time.Millisecond,
			first: 3 * time.Second, later: 2 * time.Second, mint: time.Second}
	}
	return pace{poll: 5 * time.Second, offline: offlineGrace, look: lookAgain, first: firstLookTimeout, later: lookTimeout, mint: 30 * time.Second}
}

// node drives one tsnet server from its signals: it collects them, asks
// classify what they mean, publishes that, and does the next step. One
// goroutine owns it; all others post to it.
type node struct {
	cfg        config
	log        *slog.Logger
	board      *board
	edge       *edge
	issuer     *issuer
	prober     *prober
	credential credential
	pace       pace
	tls        *tls.Config
	events     chan func()
	done       chan struct{} // closed when events are no longer taken

	orphaned            atomic.Bool
	ingressDenied       atomic.Int64
	ingressUnconfigured atomic.Int64

	// Owned by run's goroutine from here.
	seen    signals
	session *session
	dog     watchdog
	ips     []string
	failed  bool
	replace bool // the parent is asked for a new process
	logins  []time.Time
	trimmed time.Time // when memory was given back last
	trimAt  int64     // connections after which that is worth it again
	// keyDropped is set for good when a key that was kept back is refused.
	keyDropped bool
}

func newNode(cfg config, log *slog.Logger, b *board, e *edge) *node {
	if cfg.Loopback != "" {
		netns.SetEnabled(false)
	}
	i := newIssuer(cfg, log)
	return &node{
		cfg: cfg, log: log, board: b, edge: e, issuer: i, tls: i.tlsConfig(),
		prober:     newProber(cfg, i.current.Load, e.expectProbe),
		credential: newCredential(cfg),
		pace:       paceOf(cfg),
		dog:        watchdog{repaired: cfg.Repaired},
		events:     make(chan func(), 64),
		done:       make(chan struct{}),
	}
}

// run brings the node up and keeps it up until ctx ends; then it drains. It
// returns the exit code of the process.
func (n *node) run(ctx context.Context) int {
	lock, err := awaitStateDir(ctx, n.cfg.StateDir, n.cfg.Grace+lockPatience, func(f *fault) {
		n.publish(verdict{stateStarting, f.Code, f.Message, f.Hint})
	})
	if err == nil {
		defer lock.Close()
		n.begin(!enrolled(n.cfg.StateDir))
	}
	n.loop(ctx)
	close(n.done)
	n.drain()
	if !n.replace {
		return exitStopped
	}
	n.log.Error("bridge.replacement_asked", "code", codePublicPathDown,
		"message", "the public address does not answer and listening again did not help", "hint", pathHints[n.dog.last.fault])
	return exitReplace
}

func (n *node) loop(ctx context.Context) {
	tick := time.NewTicker(n.pace.poll)
	defer tick.Stop()
	for !n.replace {
		select {
		case <-ctx.Done():
			return
		case f := <-n.events:
			f()
		case <-tick.C:
			n.refresh()
			n.trim()
		}
		n.step()
	}
}

// trim gives back what a start or a burst has needed: wireguard-go's pools are
// emptied by a collection, which an idle process would not make for minutes.
func (n *node) trim() {
	handled := n.edge.accepted.Load()
	if !n.seen.Listening || n.edge.open.Load() > 0 || handled < n.trimAt || time.Since(n.trimmed) < trimEvery {
		return
	}
	n.trimAt, n.trimmed = handled+trimWorth, time.Now()
	go debug.FreeOSMemory()
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
	n.derive(s)
	v := classify(n.seen)
	if v.Code == codeAuthKeyRejected && s.keyOffered {
		n.dropKey(s)
		return
	}
	// The node's listener for the relays does not come back with an approval.
	if s.unapproved && n.seen.Backend == ipn.Running {
		n.log.Warn("node.restarted", "why", "the node was approved again")
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
	case n.seen.Backend == ipn.Running && n.seen.DNSName != "" && !n.seen.conflict():
		n.serve(s)
	}
}

// derive fills in the signals that follow from the clock and from the node itself.
func (n *node) derive(s *session) {
	n.seen.Now, n.seen.OfflineFor, n.seen.Patience = time.Now(), 0, n.pace.offline
	if !s.offlineSince.IsZero() {
		n.seen.OfflineFor = time.Since(s.offlineSince)
	}
	n.seen.KeyDropped = n.keyDropped
	n.seen.KeyKept = n.credential.given() && !s.keyGiven && !n.keyDropped && n.mayLogIn()
	n.seen.Watched, n.seen.Answered, n.seen.PathDown = n.cfg.Probe.Interval > 0, n.dog.answered, n.dog.down()
	n.seen.PathFault, n.seen.PathError = n.dog.last.fault, ""
	if n.dog.last.err != nil {
		n.seen.PathError = n.dog.last.err.Error()
	}
}

// mayLogIn reports whether a key may be handed over by login once more.
func (n *node) mayLogIn() bool {
	return len(n.logins) < maxLogins || time.Since(n.logins[len(n.logins)-maxLogins]) > loginPeriod
}

// wantsLogin reports whether only a login can help: control wants one, or has
// removed the node. A node whose key has ended waits for its admin, who can extend
// it, unless we have another key; asking for a login address would end that wait.
func (n *node) wantsLogin() bool {
	switch {
	case n.session.loginAsked:
		return false
	case n.seen.deleted():
		return true
	case n.seen.Backend != ipn.NeedsLogin:
		return false
	}
	return n.seen.BrowseURL != "" || n.seen.WasRunning && (n.seen.KeyKept || !n.seen.expired())
}

// login hands over a key that was kept back, or asks for a login address.
func (n *node) login(s *session) {
	s.loginAsked = true
	useKey := n.seen.KeyKept
	if !useKey && n.seen.BrowseURL != "" {
		return
	}
	n.log.Info("node.login_asked", "with_key", useKey)
	if useKey {
		n.logins = append(n.logins, time.Now())
	}
	if n.seen.deleted() {
		n.restart(useKey) // a login would wait for the poll of a node that is gone
		n.session.keyOffered = useKey
		return
	}
	if !useKey {
		n.askLogin(s, false, "")
		return
	}
	s.keyGiven, s.keyOffered = true, true
	go func() {
		key, err := n.credential.mint(s.ctx)
		n.post(s, func() { n.minted(s, key, err) })
	}()
}

// minted goes on with a login when its key is there.
func (n *node) minted(s *session, key secret, err error) {
	if err == nil {
		n.seen.MintError = ""
		n.askLogin(s, true, key)
		return
	}
	if n.noteMint(err); !n.seen.MintRefused {
		time.AfterFunc(n.pace.mint, func() {
			n.post(s, func() { s.keyGiven, s.loginAsked = false, false })
		})
	}
}

// noteMint takes in why no key was made.
func (n *node) noteMint(err error) {
	n.seen.MintError, n.seen.MintRefused = err.Error(), isRefusal(err)
	n.log.Warn("node.key_not_made", "error", err.Error(), "refused", n.seen.MintRefused)
}

// dropKey forgets a key that was kept back and proved stale: the node was good
// without it, so that its admin can still extend its own key, or a person log in.
func (n *node) dropKey(s *session) {
	n.log.Warn("node.key_dropped", "error", n.seen.ErrMessage+n.seen.MintError)
	n.keyDropped, s.keyOffered = true, false
	switch {
	case s.lc == nil:
		n.restart(false)
	case !n.seen.MintRefused: // control has seen it, and is in the middle of a login
		delete(n.seen.Health, healthLogin)
		n.askLogin(s, true, "")
	}
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

// serve goes from a running node to a watched public address, as far as it can
// today.
func (n *node) serve(s *session) {
	if !s.greeting {
		s.greeting = true
		go n.greet(s)
	}
	if len(n.seen.CertDomains) == 0 || strings.HasPrefix(n.seen.AccessError, textNoHTTPS) {
		return
	}
	// The certificate is asked for while the attribute may still be missing.
	if domain := n.seen.CertDomains[0]; s.domain != domain {
		n.issue(s, domain)
	}
	n.watch(s)
	if n.seen.CertNotAfter.IsZero() || n.seen.AccessError != "" || s.ln != nil || s.opening || time.Now().Before(s.openAfter) {
		return
	}
	n.open(s)
}

// issue gets the certificate of a name that is new to this session: its first
// one, or the one after a rename of the node or of its tailnet.
func (n *node) issue(s *session, domain string) {
	if s.domain != "" {
		n.log.Warn("node.renamed", "from", s.domain, "to", domain)
		s.stopIssuing()
		n.seen.CertNotAfter, n.seen.CertError = time.Time{}, ""
		n.dog.answered, n.dog.failures, n.dog.curable = false, 0, 0
		n.listenAgain(s, "the node has another name") // the Funnel stays with the name that it was opened for
	}
	ctx, stop := context.WithCancel(s.ctx)
	s.domain, s.stopIssuing = domain, stop
	n.edge.ownName.Store(&domain)
	go n.issuer.run(ctx, domain, func(r certReport) {
		n.post(s, func() {
			if s.domain == domain {
				n.certified(r)
			}
		})
	})
}

func (n *node) certified(r certReport) {
	n.seen.CertError, n.seen.CertRateLimited, n.seen.CertRetryAt = "", r.limited, r.retryAt
	if r.err != nil {
		n.seen.CertError = r.err.Error()
		return
	}
	n.seen.CertNotAfter, n.seen.CertInWeek = r.cert.notAfter(), r.inWeek
}

// open opens the Funnel.
func (n *node) open(s *session) {
	s.opening = true
	go func() {
		ln, err := openFunnel(s.ctx, s.srv, n.cfg, n.tls)
		if err == nil && s.ctx.Err() != nil {
			ln.Close() // nobody waits for it any more
			return
		}
		n.post(s, func() { n.opened(s, ln, err) })
	}()
}

func (n *node) opened(s *session, ln net.Listener, err error) {
	s.opening = false
	if err != nil {
		n.seen.ListenError, s.openAfter = err.Error(), time.Now().Add(listenAgain)
		return
	}
	n.seen.ListenError, n.seen.Listening, s.ln = "", true, ln
	n.dog.due = time.Time{}
	n.keepName()
	go func() {
		err := n.edge.serve(ln)
		n.log.Debug("funnel.closed", "error", err.Error())
		n.post(s, func() {
			if s.ln == ln {
				n.seen.Listening, s.ln = false, nil
			}
		})
	}()
}

// keepName remembers the name for the next start: it is ours from now on.
func (n *node) keepName() {
	name := n.seen.given()
	if name == n.seen.KeptName {
		return
	}
	if err := keepName(n.cfg.StateDir, name); err != nil {
		n.log.Warn("node.name_not_kept", "error", err.Error())
	}
	n.seen.KeptName = name
}

// listenAgain withdraws the Funnel; the next step opens it again, for the name
// that the node has then. What is in flight is not cut off.
func (n *node) listenAgain(s *session, why string) {
	if s.ln == nil {
		return
	}
	n.log.Warn("funnel.listening_again", "why", why)
	ln := s.ln
	n.seen.Listening, s.ln, s.opening = false, nil, true
	go func() {
		if !bounded(unlistenTimeout, func() { ln.Close() }) {
			n.log.Warn("funnel.close_timed_out")
		}
		n.post(s, func() { s.opening = false })
	}()
}

// publish puts the verdict and what is known of the node on the board, and in
// the log when it is news.
func (n *node) publish(v verdict) {
	before := n.board.current()
	moved := n.board.update(func(d *status) {
		d.State, d.Code, d.Message, d.Hint = v.State, v.Code, v.Message, v.Hint
		d.URL, d.AuthURL, d.Cert = "", "", certStatus{}
		if cert := n.issuer.current.Load(); cert != nil {
			d.Cert = certStatus{secondsOrNil(cert.notAfter()), secondsOrNil(cert.renewAt()), n.seen.CertInWeek}
			if v.State == stateReady || v.State == stateDegraded {
				d.URL = publicURL(cert.domain, n.cfg.Port, n.cfg.WebhookPath)
			}
		}
		if v.State == stateAuthenticating || v.Code == codeNodeDeleted {
			d.AuthURL = n.seen.BrowseURL
		}
		d.Probe = n.dog.last.document()
		d.Node = n.describe()
	})
	doc := n.board.current()
	if moved || doc.AuthURL != before.AuthURL && doc.AuthURL != "" || doc.URL != before.URL && doc.URL != "" {
		logStatus(n.log, doc)
	}
}

// describe is the node as control sees it.
func (n *node) describe() nodeStatus {
	d := nodeStatus{n.seen.DNSName, nonNil(n.ips), secondsOrNil(n.seen.KeyExpiry), nonNil(n.seen.Tags), nil}
	if n.session != nil && n.session.read {
		online := n.session.offlineSince.IsZero()
		d.Online = &online
	}
	return d
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
	grace := n.cfg.Grace
	if n.orphaned.Load() {
		grace = min(grace, orphanGrace)
	}
	n.endSession(grace)
	end(stateStopped)
}

// metrics is the whole exposition for Prometheus.
func (n *node) metrics() string {
	var x exposition
	x.writeStatus(n.board.current())
	x.writeEdge(n.edge)
	x.writeWatchdog(&n.dog)
	x.one("cert_failures_total", "counter", "Failed attempts to get or renew the certificate.", float64(n.issuer.failures.Load()))
	x.one("ingress_denied_total", "counter", "Ingress connections that the packet filter refused.", float64(n.ingressDenied.Load()))
	x.one("ingress_unconfigured_total", "counter", "Ingress connections for a name that is not ours.", float64(n.ingressUnconfigured.Load()))
	return x.String()
}
