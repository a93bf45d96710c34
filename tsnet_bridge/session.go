package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
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

	keyGiven     bool // the auth key was handed over and no login came of it yet
	loginAsked   bool
	keyOffered   bool // by login, when a node that was enrolled needed one
	unapproved   bool // control took the approval back while the node ran
	greeted      bool
	issuingFor   string
	opening      bool
	openAfter    time.Time
	refreshing   bool
	refreshAgain bool
	offlineSince time.Time
}

// begin starts a tsnet server. An enrolled node gets no key of any kind: a
// stale one makes control refuse a good node, and an OAuth secret needs an API.
func (n *node) begin(withKey bool) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{ctx: ctx, cancel: cancel, srv: n.newServer(withKey), keyGiven: withKey}
	n.session = s
	n.seen = signals{Hostname: n.cfg.Hostname, ForeignURL: isForeign(n.cfg)}
	go func() {
		err := s.srv.Start()
		n.post(s, func() { n.started(s, err) })
	}()
}

func (n *node) newServer(withKey bool) *tsnet.Server {
	port, err := keptPort(n.cfg.StateDir)
	if err != nil {
		n.log.Warn("node.port_not_kept", "error", err.Error())
	}
	srv := &tsnet.Server{
		Dir: n.cfg.StateDir, Hostname: n.cfg.Hostname, ControlURL: n.cfg.ControlURL,
		AdvertiseTags: n.cfg.Tags, Port: port, Logf: n.backendSaid, UserLogf: n.backendSaid,
	}
	if withKey {
		srv.AuthKey = explicitKey(n.cfg.AuthKey)
	}
	return srv
}

// explicitKey settles what an OAuth client secret leaves open: by default the
// node would be ephemeral and wait for an approval.
func explicitKey(key secret) string {
	if !isOAuth(key) {
		return string(key)
	}
	base, query, _ := strings.Cut(string(key), "?")
	attributes, err := url.ParseQuery(query)
	if err != nil {
		return string(key) // tsnet says what is wrong with it
	}
	for name, value := range map[string]string{"ephemeral": "false", "preauthorized": "true"} {
		if !attributes.Has(name) {
			attributes.Set(name, value)
		}
	}
	return base + "?" + attributes.Encode()
}

// isForeign reports whether the control server is neither Tailscale's nor the
// local tailnet of the tests.
func isForeign(cfg config) bool {
	u, err := url.Parse(cfg.ControlURL)
	return cfg.ControlURL != "" && !cfg.Loopback && (err != nil || !strings.HasSuffix(u.Hostname(), "tailscale.com"))
}

// backendSaid gets every log line of the backend, which must not be held up.
// Some facts are told nowhere else.
func (n *node) backendSaid(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	switch {
	case strings.Contains(line, "initial fetch failed 404"):
		go func() {
			select {
			case n.events <- func() { n.seen.NotFound = true }:
			case <-n.done:
			}
		}()
	case strings.Contains(line, "denied; no ingress cap"):
		n.ingressDenied.Add(1)
	case strings.Contains(line, "got ingress conn for unconfigured"):
		n.ingressUnconfigured.Add(1)
	}
	n.log.Debug("backend.said", "text", line)
}

// started follows a node that has started, or says why it did not.
func (n *node) started(s *session, err error) {
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
	go n.watch(s)
}

// restart replaces the tsnet server within the process; the edge stays.
func (n *node) restart(withKey bool) {
	n.unlisten(n.session)
	n.closeServer(n.session)
	offered := withKey && n.session.keyOffered
	n.begin(withKey)
	n.session.keyOffered = offered
}

// watch posts what the bus says until the session ends.
func (n *node) watch(s *session) {
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
		n.seen.Backend = *said.State
		n.session.unapproved = n.session.unapproved || n.seen.WasRunning && *said.State == ipn.NeedsMachineAuth
		if *said.State == ipn.Running {
			n.seen.WasRunning, n.seen.ErrMessage, n.seen.BrowseURL = true, "", ""
			n.session.greeted = false // a new login has a new key, which no peer knows
		}
	}
	if said.State != nil || said.SelfChange != nil {
		n.session.openAfter = time.Time{}
		n.refresh()
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
	go func() {
		ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
		defer cancel()
		st, err := s.lc.StatusWithoutPeers(ctx)
		n.post(s, func() {
			s.refreshing = false
			if err == nil {
				n.read(s, st)
			}
			if s.refreshAgain {
				n.refresh()
			}
		})
	}()
}

// read takes in a status.
func (n *node) read(s *session, st *ipnstate.Status) {
	if st.Self == nil || st.BackendState != ipn.Running.String() {
		return
	}
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
		n.seen.NotFound, n.seen.BrowseURL, s.offlineSince = false, "", time.Time{}
		s.keyGiven, s.loginAsked = false, false
	case s.offlineSince.IsZero():
		s.offlineSince = time.Now()
	}
}

// greet pings every peer. It replaces the session that a peer, such as an
// ingress relay, still has with our predecessor; else that peer needs 5 or 10 s.
func (n *node) greet(s *session) {
	st, err := s.lc.Status(s.ctx)
	if err != nil {
		return
	}
	slots := make(chan struct{}, pingsAtOnce)
	for _, key := range st.Peers()[:min(len(st.Peer), maxPinged)] {
		ips := st.Peer[key].TailscaleIPs
		if len(ips) == 0 {
			continue
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(s.ctx, pingTimeout)
			defer cancel()
			_, _ = s.lc.Ping(ctx, ips[0], tailcfg.PingTSMP) // a peer that is away does not matter
		}()
	}
}
