package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/types/views"
)

// bareNode is a node whose signals the test gives; no tsnet server is behind it.
func bareNode(t *testing.T, change func(*config)) (*node, *lockedBuffer) {
	t.Helper()
	cfg := smallConfig(t)
	if change != nil {
		change(&cfg)
	}
	redact, out := newRedactor(string(cfg.AuthKey)), &lockedBuffer{}
	log := newLogger(out, slog.LevelInfo, redact, newLineRing())
	n := newNode(cfg, log, newBoard(cfg, redact), newEdge(cfg, log))
	ctx, cancel := context.WithCancel(t.Context())
	n.session = &session{ctx: ctx, cancel: cancel}
	n.seen = signals{Hostname: cfg.Hostname}
	return n, out
}

// hear takes in one message of the bus and does the step that follows.
func (n *node) hear(said ipn.Notify) status {
	n.noticed(&said)
	n.step()
	return n.board.current()
}

func in(state ipn.State) ipn.Notify { return ipn.Notify{State: &state} }

// member is the status of a node that may use Funnel.
func member(name string) *ipnstate.Status {
	tags := views.SliceOf([]string{"tag:guardian"})
	expiry := noon.Add(time.Hour)
	return &ipnstate.Status{
		BackendState: ipn.Running.String(),
		CertDomains:  []string{name},
		TailscaleIPs: []netip.Addr{netip.MustParseAddr("100.64.0.2")},
		Self: &ipnstate.PeerStatus{
			DNSName: name + ".", Online: true, Tags: &tags, KeyExpiry: &expiry,
			CapMap: tailcfg.NodeCapMap{
				tailcfg.CapabilityHTTPS: nil, tailcfg.NodeAttrFunnel: nil,
				"https://tailscale.com/cap/funnel-ports?ports=443,8443": nil,
			},
		},
	}
}

// The login address is in the status and in the log, at warning; with the login it goes.
func TestLoginAddressIsToldUntilTheLogin(t *testing.T) {
	n, out := bareNode(t, nil)
	n.hear(in(ipn.NeedsLogin))
	address := "https://login.tailscale.com/a/1b2c3d"
	if doc := n.hear(ipn.Notify{BrowseToURL: &address}); doc.Code != codeNeedsLogin || doc.AuthURL != address {
		t.Errorf("%+v", doc)
	}
	var line struct{ Level, Msg, AuthURL string }
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	text := strings.Replace(lines[len(lines)-1], "auth_url", "AuthURL", 1)
	if json.Unmarshal([]byte(text), &line) != nil || line.Level != "warning" || line.Msg != "bridge.needs_login" || line.AuthURL != address {
		t.Error(text)
	}
	if doc := n.hear(in(ipn.Running)); doc.State != stateStarting || doc.AuthURL != "" {
		t.Errorf("%+v", doc)
	}
}

// A rejected key ends the session, keeps the status, and is shown nowhere.
func TestRejectedKeyEndsTheSession(t *testing.T) {
	n, out := bareNode(t, func(c *config) { c.AuthKey = aKey })
	session := n.session
	refused := noKey + ": " + aKey
	if doc := n.hear(ipn.Notify{ErrMessage: &refused}); doc.State != stateFailed || doc.Code != codeAuthKeyRejected {
		t.Errorf("%+v", doc)
	}
	if n.session != nil || session.ctx.Err() == nil {
		t.Error("the session goes on")
	}
	n.post(session, func() { t.Error("an event of an ended session was taken") })
	(<-n.events)()
	n.step()
	if doc := n.board.current(); doc.State != stateFailed || strings.Contains(doc.Message+out.String(), "SECRET") {
		t.Errorf("%+v %s", doc, out)
	}
}

// What control says about the node is in the status, and the address once it is served.
func TestServedNodeIsDescribed(t *testing.T) {
	n, _ := bareNode(t, func(c *config) { c.Hostname, c.Port = "guard", 8443 })
	n.hear(in(ipn.Running))
	n.read(n.session, member(ownName), false)
	n.step()
	if doc := n.board.current(); doc.State != stateIssuing || doc.URL != "" || doc.Node.DNSName != ownName {
		t.Errorf("%+v", doc)
	}
	pair, _ := newCertificate(t, ownName)
	cert := &servedCert{ownName, pair}
	n.issuer.current.Store(cert)
	n.certified(certReport{cert: cert})
	n.seen.Listening = true
	n.step()
	doc := n.board.current()
	if doc.State != stateReady || doc.URL != "https://"+ownName+":8443/webhooks/github" {
		t.Errorf("%+v", doc)
	}
	raw, _ := json.Marshal(doc.Node)
	if want := `{"dns_name":"` + ownName + `","ips":["100.64.0.2"],"key_expiry":"2026-11-23T13:00:00Z","tags":["tag:guardian"],"online":true}`; want != string(raw) {
		t.Errorf("\nwant %s\ngot  %s", want, raw)
	}
	if doc.Cert.NotAfter == nil || doc.Cert.RenewAt == nil || !doc.Cert.RenewAt.Before(*doc.Cert.NotAfter) {
		t.Errorf("%+v", doc.Cert)
	}
	st := member(ownName)
	delete(st.Self.CapMap, tailcfg.NodeAttrFunnel)
	n.read(n.session, st, false)
	n.step()
	if doc := n.board.current(); doc.State != stateDegraded || doc.Code != codeFunnelAttrMissing || doc.URL == "" {
		t.Errorf("%+v", doc)
	}
}

// A key that was kept back is wanted once, and again after the next good login.
func TestKeptKeyIsWantedOnce(t *testing.T) {
	n, _ := bareNode(t, func(c *config) { c.AuthKey = aKey })
	n.hear(in(ipn.NeedsLogin))
	if n.wantsLogin() {
		t.Error("wants a login before control asked")
	}
	address := "https://x"
	if doc := n.hear(ipn.Notify{BrowseToURL: &address}); doc.Code != "" || !n.seen.KeyKept || !n.wantsLogin() {
		t.Errorf("%+v", doc)
	}
	n.session.keyGiven, n.session.loginAsked = true, true
	n.step()
	if n.wantsLogin() || n.board.current().Code != codeNeedsLogin {
		t.Error("a key that did not help is not the person's turn")
	}
	n.read(n.session, member(ownName), false)
	if n.session.keyGiven || n.session.loginAsked {
		t.Error("a good login does not forget the earlier ones")
	}
}

// Facts that only the backend's log tells are taken from there.
func TestBackendLogIsScanned(t *testing.T) {
	n, _ := bareNode(t, nil)
	n.backendSaid(n.session, "control: %s", "Received error: PollNetMap: initial fetch failed 404: node not found")
	(<-n.events)()
	n.backendSaid(n.session, "peerapi: ingress: denied; no ingress cap from 100.64.0.9")
	n.backendSaid(n.session, `handleIngress: got ingress conn for unconfigured "x:443"; rejecting`)
	if n.seen.NotFound != 1 || n.ingressDenied.Load() != 1 || n.ingressUnconfigured.Load() != 1 {
		t.Error(n.seen.NotFound, n.ingressDenied.Load(), n.ingressUnconfigured.Load())
	}
}

// Offline time counts from the first status that says so and ends with Online.
func TestOfflineTimeCounts(t *testing.T) {
	n, _ := bareNode(t, nil)
	st := member(ownName)
	st.Self.Online = false
	n.read(n.session, st, false)
	first := n.session.offlineSince
	n.read(n.session, st, false)
	if first.IsZero() || !first.Equal(n.session.offlineSince) {
		t.Error(first, n.session.offlineSince)
	}
	n.read(n.session, member(ownName), false)
	if !n.session.offlineSince.IsZero() {
		t.Error("online again and still counted")
	}
}

// A node whose listener for the relays is lost with its approval begins again when that comes back.
func TestApprovalGivenBackBeginsAgain(t *testing.T) {
	n, out := bareNode(t, nil)
	n.hear(in(ipn.NeedsMachineAuth))
	n.hear(in(ipn.Running))
	if n.session.unapproved {
		t.Error("the first approval counts")
	}
	n.hear(in(ipn.NeedsMachineAuth))
	first := n.session
	n.session.srv = &tsnet.Server{}
	n.noticed(&ipn.Notify{State: new(ipn.Running)})
	n.step()
	if n.session == first || !strings.Contains(out.String(), "approved again") {
		t.Error(out)
	}
	n.session.cancel()
}

// A state that the bus has lost is taken from the status, unless the bus has spoken since.
func TestLostStateIsCorrected(t *testing.T) {
	n, _ := bareNode(t, nil)
	n.hear(in(ipn.Starting))
	n.read(n.session, member(ownName), false)
	if n.seen.Backend != ipn.Starting {
		t.Error("an old status overrides the bus")
	}
	n.read(n.session, member(ownName), true)
	if n.seen.Backend != ipn.Running || !n.seen.WasRunning {
		t.Error(n.seen.Backend)
	}
}

// A tailnet that keeps throwing the node out gets its key three times an hour.
func TestLoginsAreBounded(t *testing.T) {
	n, _ := bareNode(t, func(c *config) { c.AuthKey = aKey })
	for range maxLogins {
		if n.derive(n.session); !n.seen.KeyKept {
			t.Fatal(len(n.logins))
		}
		n.logins = append(n.logins, time.Now())
	}
	if n.derive(n.session); n.seen.KeyKept {
		t.Error("a fourth time")
	}
	n.logins[0] = time.Now().Add(-2 * loginPeriod)
	if n.derive(n.session); !n.seen.KeyKept {
		t.Error("an hour later it is not tried again")
	}
}

// Memory is given back once after a start, and then only after many connections, a minute apart, all of them over.
func TestMemoryIsGivenBackWhenItIsWorthIt(t *testing.T) {
	n, _ := bareNode(t, nil)
	trims := func() bool { before := n.trimmed; n.trim(); return n.trimmed != before }
	if trims() {
		t.Error("before anything is served")
	}
	n.seen.Listening = true
	if !trims() || trims() {
		t.Error("once after the start")
	}
	n.trimmed = time.Now().Add(-2 * trimEvery)
	n.edge.accepted.Store(trimWorth - 1)
	if trims() {
		t.Error("for a few connections")
	}
	n.edge.accepted.Store(trimWorth)
	n.edge.open.Store(1)
	if trims() {
		t.Error("while one is open")
	}
	n.edge.open.Store(0)
	if !trims() {
		t.Error("not after many")
	}
}
