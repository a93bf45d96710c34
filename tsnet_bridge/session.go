package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
)

// session is one life of a tsnet server. Its fields are owned by the node.
type session struct {
	ctx    context.Context
	cancel context.CancelFunc
	srv    *tsnet.Server
	lc     *local.Client // nil until started
	ln     net.Listener  // nil until the Funnel is open

	keyGiven   bool // an auth key was handed over and no login came of it yet
	loginAsked bool
	keyOffered bool // by login, when a node that was enrolled needed one
	unapproved bool // control took the approval back while the node ran
	greeting   bool
	greeted    bool // a peer has answered, or none will
	// stopEarlyLook ends a look at the public address that began before that.
	stopEarlyLook context.CancelFunc
	domain        string // that a certificate is kept for
	stopIssuing   context.CancelFunc
	opening       bool // or closing
	openAfter     time.Time
	heard         int // states on the bus
	refreshing    bool
	refreshAgain  bool
	read          bool // a status was read
	offlineSince  time.Time
}

// begin starts a tsnet server. An enrolled node gets no key of any kind: a
// stale one makes control refuse a good node, and making one needs an API.
func (n *node) begin(withKey bool) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{ctx: ctx, cancel: cancel, keyGiven: withKey, stopEarlyLook: func() {}}
	s.srv = n.newServer(s)
	n.session = s
	n.seen = signals{
		Hostname: n.cfg.Hostname, AnyName: n.cfg.AnyName, KeptName: keptName(n.cfg.StateDir), ForeignURL: isForeign(n.cfg),
	}
	go func() {
		if withKey && !n.mintFirst(s) {
			return
		}
		err := s.srv.Start()
		n.post(s, func() { n.started(s, err) })
	}()
}

// mintFirst gets the key of a first login, however long that takes; it reports
// false when the API said no or the session is over.
func (n *node) mintFirst(s *session) bool {
	for {
		key, err := n.credential.mint(s.ctx)
		if err == nil {
			s.srv.AuthKey = string(key)
			return true
		}
		n.post(s, func() { n.noteMint(err) })
		if isRefusal(err) || s.ctx.Err() != nil {
			return false
		}
		sleepUntil(s.ctx, time.Now().Add(n.pace.mint))
	}
}

func (n *node) newServer(s *session) *tsnet.Server {
	port, err := keptPort(n.cfg.StateDir)
	if err != nil {
		n.log.Warn("node.port_not_kept", "error", err.Error())
	}
	said := func(format string, args ...any) { n.backendSaid(s, format, args...) }
	return &tsnet.Server{
		Dir: n.cfg.StateDir, Hostname: n.cfg.Hostname, ControlURL: n.cfg.ControlURL,
		AdvertiseTags: n.cfg.Tags, Port: port, Logf: said, UserLogf: said,
	}
}

// isForeign reports whether the control server is neither Tailscale's nor the
// local tailnet of the tests.
func isForeign(cfg config) bool {
	u, err := url.Parse(cfg.ControlURL)
	return cfg.ControlURL != "" && cfg.Loopback == "" && (err != nil || !strings.HasSuffix(u.Hostname(), "tailscale.com"))
}

// backendSaid gets every log line of the backend, which must not be held up.
// Some facts are told nowhere else.
func (n *node) backendSaid(s *session, format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	switch {
	case strings.Contains(line, "initial fetch failed 404"):
		go n.post(s, func() { n.seen.NotFound++ })
	case strings.Contains(line, "denied; no ingress cap"):
		n.ingressDenied.Add(1)
	case strings.Contains(line, "got ingress conn for unconfigured"):
		n.ingressUnconfigured.Add(1)
	}
	n.log.Debug("backend.said", "text", line)
}

// backendStates are the states of the backend by the names that a status has.
var backendStates = map[string]ipn.State{
	ipn.NoState.String(): ipn.NoState, ipn.NeedsLogin.String(): ipn.NeedsLogin, ipn.NeedsMachineAuth.String(): ipn.NeedsMachineAuth,
	ipn.Stopped.String(): ipn.Stopped, ipn.Starting.String(): ipn.Starting, ipn.Running.String(): ipn.Running,
}

// started follows a node that has started, or says why it did not.
func (n *node) started(s *session, err error) {
	n.seen.MintError = ""
	if err != nil {
		n.seen.StartError = err.Error()
		if classify(n.seen).State != stateFailed {
			time.AfterFunc(startAgain, func() { n.post(s, func() { n.restart(s.keyGiven) }) })
		}
		return
	}
	s.lc, _ = s.srv.LocalClient() // fails only when Start did
	// A pooled connection that was never used would hold Server.Close for 5 s.
	s.lc.Transport = &http.Transport{DialContext: s.lc.Dial, DisableKeepAlives: true}
	ask := s.lc.WhoIs
	n.edge.whoIs.Store(&ask)
	go n.followBus(s)
}

// restart replaces the tsnet server within the process; the edge stays.
func (n *node) restart(withKey bool) {
	n.unlisten(n.session)
	n.closeServer(n.session)
	n.begin(withKey)
}

// followBus posts what the bus says until the session ends.
func (n *node) followBus(s *session) {
	for s.ctx.Err() == nil {
		bus, err := s.lc.WatchIPNBus(s.ctx, ipn.NotifyInitialState|ipn.NotifyInitialHealthState)
		for err == nil {
			var said ipn.Notify
			if said, err = bus.Next(); err == nil {
				n.post(s, func() { n.noticed(&said) })
			}
		}
		if bus != nil {
			bus.Close()
		}
		n.log.Debug("node.watch_ended", "error", err.Error())
		sleepUntil(s.ctx, time.Now().Add(watchAgain))
	}
}

// noticed takes in one message of the bus.
func (n *node) noticed(said *ipn.Notify) {
	if said.ErrMessage != nil {
		n.seen.ErrMessage = *said.ErrMessage
		n.log.Warn("node.refused", "error", *said.ErrMessage)
	}
	if said.BrowseToURL != nil {
		n.seen.BrowseURL = *said.BrowseToURL
	}
	if said.Health != nil {
		n.seen.Health = map[string]string{}
		for code, warning := range said.Health.Warnings {
			n.seen.Health[string(code)] = warning.Text
		}
	}
	if said.SelfChange != nil {
		n.seen.KeyExpiry = said.SelfChange.KeyExpiry // a status has it only while the node runs
	}
	if said.State != nil {
		n.session.heard++
		n.enter(*said.State)
	}
	if said.State != nil || said.SelfChange != nil {
		n.session.openAfter = time.Time{}
		n.refresh()
	}
}

// enter takes in a state of the backend.
func (n *node) enter(state ipn.State) {
	n.seen.Backend = state
	n.session.unapproved = n.session.unapproved || n.seen.WasRunning && state == ipn.NeedsMachineAuth
	if state == ipn.Running {
		n.seen.WasRunning, n.seen.ErrMessage, n.seen.BrowseURL = true, "", ""
		n.session.greeting, n.session.greeted = false, false // a new login has a new key, which no peer knows
	}
}

// refresh reads the node's status. It runs beside the node, because the backend
// may be busy for long; one at a time, and once more when asked meanwhile.
func (n *node) refresh() {
	s := n.session
	if s == nil || s.lc == nil {
		return
	}
	if s.refreshing {
		s.refreshAgain = true
		return
	}
	s.refreshing, s.refreshAgain = true, false
	heard := s.heard
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		defer cancel()
		st, err := s.lc.StatusWithoutPeers(ctx)
		n.post(s, func() {
			s.refreshing = false
			if err == nil {
				n.read(s, st, heard == s.heard)
			}
			if s.refreshAgain {
				n.refresh()
			}
		})
	}()
}

// read takes in a status. When no state came on the bus since it was asked for,
// it also corrects a state that the bus has lost.
func (n *node) read(s *session, st *ipnstate.Status, fresh bool) {
	if state, known := backendStates[st.BackendState]; known && fresh && state != n.seen.Backend {
		n.log.Warn("node.state_corrected", "from", n.seen.Backend.String(), "to", st.BackendState)
		n.enter(state)
	}
	if st.Self == nil || st.BackendState != ipn.Running.String() {
		return
	}
	s.read = true
	n.seen.DNSName = strings.TrimSuffix(st.Self.DNSName, ".")
	n.seen.CertDomains = st.CertDomains
	n.seen.KeyExpiry, n.seen.Tags, n.seen.AccessError = time.Time{}, []string{}, ""
	if st.Self.KeyExpiry != nil {
		n.seen.KeyExpiry = *st.Self.KeyExpiry
	}
	if st.Self.Tags != nil {
		n.seen.Tags = st.Self.Tags.AsSlice()
	}
	if err := ipn.CheckFunnelAccess(uint16(n.cfg.Port), st.Self); err != nil {
		n.seen.AccessError = err.Error()
	}
	n.ips = []string{}
	for _, ip := range st.TailscaleIPs {
		n.ips = append(n.ips, ip.String())
	}
	switch {
	case st.Self.Online:
		n.seen.NotFound, n.seen.BrowseURL, n.seen.MintError, s.offlineSince = 0, "", "", time.Time{}
		s.keyGiven, s.loginAsked, s.keyOffered = false, false, false
	case s.offlineSince.IsZero():
		s.offlineSince = time.Now()
	}
}

// greet makes a new session with every peer, and posts when the first has it or
// none will. It replaces the one that a peer, such as an ingress relay, still has
// with our predecessor; else that peer needs 5 or 10 s.
func (n *node) greet(s *session) {
	ctx, cancel := context.WithTimeout(s.ctx, greetTimeout)
	defer cancel()
	began, ended := time.Now(), make(chan struct{}, maxPinged+1)
	go func() {
		n.greetPeers(s, ended)
		ended <- struct{}{}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	n.log.Debug("node.greeted", "took", time.Since(began))
	n.post(s, func() {
		s.greeted = true
		s.stopEarlyLook()
	})
}

// greetPeers greets all at once, within bounds, and says when one has answered.
func (n *node) greetPeers(s *session, answered chan<- struct{}) {
	st, err := s.lc.Status(s.ctx)
	if err != nil {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, pingsAtOnce)
	for _, key := range st.Peers()[:min(len(st.Peer), maxPinged)] {
		ips := st.Peer[key].TailscaleIPs
		if len(ips) == 0 {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if s.greetPeer(ips[0]) {
				answered <- struct{}{}
			}
		})
	}
}

// greetPeer reports whether the peer has answered; one that is away does not matter.
//
// WireGuard's handshake has one try in 5 s. It is lost when the peer does not know
// yet that we are new, so first come pings of the layer below, which cost nothing
// to repeat. It is lost as well when the peer begins one of its own, for traffic
// that waits, while ours is under way: so that one goes first.
func (s *session) greetPeer(ip netip.Addr) bool {
	var roundTrip time.Duration
	for end := time.Now().Add(pathTimeout); time.Now().Before(end); sleepUntil(s.ctx, time.Now().Add(pathAgain/10)) {
		if took, ok := s.ping(ip, tailcfg.PingDisco, pathAgain); ok {
			roundTrip = took
			break
		}
	}
	sleepUntil(s.ctx, time.Now().Add(afterYou+2*roundTrip))
	_, ok := s.ping(ip, tailcfg.PingTSMP, pingTimeout)
	return ok
}

func (s *session) ping(ip netip.Addr, kind tailcfg.PingType, timeout time.Duration) (roundTrip time.Duration, ok bool) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	result, err := s.lc.Ping(ctx, ip, kind)
	if err != nil || result.Err != "" {
		return 0, false
	}
	return time.Duration(result.LatencySeconds * float64(time.Second)), true
}
