package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// maxRequest bounds the body of a request to control, as testcontrol does.
const maxRequest = 1 << 20

// control is the coordination server. testcontrol speaks the protocol (Noise, netmaps,
// addresses); all that an administrator decides is ours, in front of it: who may join,
// names, approval, expiry, deletion, capabilities, DNS records. So is the API for
// credentials, which has an address of its own in the world, and so knows neither the hang
// nor the clock of control.
type control struct {
	url     string
	http    *switchable
	ownURL  string // for our own nodes, which know no outage
	ownHTTP *switchable
	server  *testcontrol.Server
	api     *credentials
	dns     *dnsServer
	faults  *faultBox
	journal *journal

	mu       sync.Mutex
	nodes    registry
	caps     tailcfg.NodeCapMap
	logins   map[string]*login // by URL
	relay    key.NodePublic
	relayIPs []string
	streamID int
	changed  chan struct{} // closed when a node has told something new
}

func startControl(derpMap *tailcfg.DERPMap, dns *dnsServer, faults *faultBox, j *journal) (*control, error) {
	web, err := listenSwitchable(nil)
	if err != nil {
		return nil, err
	}
	own, err := listenSwitchable(nil)
	if err != nil {
		return nil, errorsAfter(err, web.close())
	}
	c := &control{
		url:     "http://" + web.addr,
		http:    web,
		ownURL:  "http://" + own.addr,
		ownHTTP: own,
		api:     newCredentials(faults, j),
		dns:     dns,
		faults:  faults,
		journal: j,
		nodes:   registry{},
		caps:    defaultCaps(),
		logins:  map[string]*login{},
		changed: make(chan struct{}),
	}
	c.server = &testcontrol.Server{
		DERPMap:         derpMap,
		DNSConfig:       &tailcfg.DNSConfig{Proxied: true},
		MagicDNSDomain:  faults.get().domain,
		ExplicitBaseURL: c.url,
		AllOnline:       true,
		Logf:            logger.Discard,
	}
	if err := intercept(c.server, c.handler); err != nil {
		return nil, errorsAfter(err, c.close())
	}
	web.serve(c.server)
	own.serve(markOwn(c.server))
	return c, nil
}

// handler answers for an administrator, and lets testcontrol do the rest. Paths that
// testcontrol does not know must not reach it: it would end the process.
func (c *control) handler(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/key", "/ts2021", "/c2n/", "/generate_204"} {
		mux.Handle(path, next)
	}
	mux.Handle("POST /machine/update-health", next)
	mux.Handle("POST /machine/register", c.machine(next, c.register))
	mux.Handle("POST /machine/map", c.machine(next, c.mapRequest))
	mux.Handle("POST /machine/set-dns", c.machine(next, c.setDNS))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c.journal.add(controlLog, "%s %s: not found", r.Method, r.URL.Path)
		http.NotFound(w, r)
	})
	outer := http.NewServeMux()
	outer.Handle("/api/", c.api.handler())
	outer.Handle("/", c.front(mux))
	return outer
}

// front holds all requests while control hangs, and tells the time that control has.
func (c *control) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.ready(r.Context()) != nil {
			return
		}
		w.Header().Set("Date", c.now(r.Context()).UTC().Format(http.TimeFormat))
		next.ServeHTTP(w, r)
	})
}

// ready waits as long as control hangs.
func (c *control) ready(ctx context.Context) error {
	if isOwn(ctx) || c.faults.await(ctx, func(f faults) bool { return !f.hang }) {
		return nil
	}
	return ctx.Err()
}

// now is the time by the clock of control.
func (c *control) now(ctx context.Context) time.Time {
	return time.Now().Add(c.faultsFor(ctx).clockSkew)
}

// ownKey marks the requests of our own nodes.
type ownKey struct{}

// markOwn marks what comes to the listener of our own nodes. The mark reaches the requests
// inside a Noise connection, because they inherit the context of the connection.
func markOwn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ownKey{}, true)))
	})
}

// isOwn reports whether a request is one of our own nodes'.
func isOwn(ctx context.Context) bool { return ctx.Value(ownKey{}) != nil }

// faultsFor returns the faults that a node meets: our own meet none, or the ingress would
// fail where the helper under test is to.
func (c *control) faultsFor(ctx context.Context) faults {
	if isOwn(ctx) {
		return defaultFaults()
	}
	return c.faults.get()
}

// machineHandler answers a request of a node; body is all of it.
type machineHandler func(next http.Handler, w http.ResponseWriter, r *http.Request, body []byte)

func (c *control) machine(next http.Handler, h machineHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
		if err != nil {
			return // the node gave up, as it often does
		}
		var who struct {
			NodeKey  key.NodePublic
			Auth     *struct{} // there or not: a key is not for the journal
			Followup string
		}
		if err := json.Unmarshal(body, &who); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.journal.add(controlLog, "%s node=%s auth=%v followup=%v",
			r.URL.Path, who.NodeKey.ShortString(), who.Auth != nil, who.Followup != "")
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(next, w, r, body)
	})
}

// register lets a node in, or says why not.
func (c *control) register(next http.Handler, w http.ResponseWriter, r *http.Request, body []byte) {
	f := c.faultsFor(r.Context())
	if f.registerStatus != 0 {
		if f.retryAfter != "" {
			w.Header().Set("Retry-After", f.retryAfter)
		}
		http.Error(w, "fault of the local tailnet", f.registerStatus)
		return
	}
	var req tailcfg.RegisterRequest
	if err := json.Unmarshal(body, &req); err != nil || req.Hostinfo == nil || req.Version == 0 {
		http.Error(w, "not a register request", http.StatusBadRequest)
		return
	}
	if !req.Expiry.IsZero() && req.Expiry.Before(time.Now()) {
		c.logout(req.NodeKey)
		writeJSON(w, tailcfg.RegisterResponse{NodeKeyExpired: true})
		return
	}
	if req.Followup != "" {
		if !c.awaitLogin(r.Context(), req.Followup) {
			return
		}
		c.welcome(next, w, r, f, req, nil)
		return
	}
	switch v, given := c.judge(f, req); v {
	case admit:
		c.welcome(next, w, r, f, req, given)
	case rejectKey:
		writeJSON(w, tailcfg.RegisterResponse{Error: f.keyError})
	case replaceKey:
		writeJSON(w, tailcfg.RegisterResponse{NodeKeyExpired: true})
	case askLogin:
		writeJSON(w, tailcfg.RegisterResponse{AuthURL: c.newLogin()})
	}
}

// judge decides, and uses up the auth key of the API that lets the node in.
func (c *control) judge(f faults, req tailcfg.RegisterRequest) (verdict, *grant) {
	authKey := ""
	if req.Auth != nil {
		authKey = req.Auth.AuthKey
	}
	made := c.api.key(authKey)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[req.NodeKey]
	v := judge(f, n, authKey, made, time.Now())
	if v != admit || n.alive() || made == nil {
		return v, nil
	}
	made.used = true
	return v, &made.grant
}

// welcome registers the node with testcontrol and makes it a member.
func (c *control) welcome(
	next http.Handler, w http.ResponseWriter, r *http.Request, f faults, req tailcfg.RegisterRequest, given *grant,
) {
	req.Followup = "" // testcontrol would wait for a login that it knows nothing of
	body, err := json.Marshal(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := newAnswer()
	next.ServeHTTP(answer, r)
	var res tailcfg.RegisterResponse
	if err := json.Unmarshal(answer.body.Bytes(), &res); err != nil {
		http.Error(w, answer.body.String(), http.StatusInternalServerError)
		return
	}
	res.MachineAuthorized = c.join(f, req, given)
	c.poke()
	writeJSON(w, res)
}

// join makes the node a member and reports whether it is approved.
func (c *control) join(f faults, req tailcfg.RegisterRequest, given *grant) bool {
	machine := c.server.Node(req.NodeKey).Machine
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes.join(f, req.NodeKey, machine, req.Hostinfo.Hostname, given)
	return c.nodes[req.NodeKey].approved
}

func (c *control) logout(k key.NodePublic) {
	c.mu.Lock()
	if n := c.nodes[k]; n != nil {
		n.remove()
	}
	c.mu.Unlock()
	c.poke()
}

// mapRequest streams netmaps, each rewritten by view.
func (c *control) mapRequest(next http.Handler, w http.ResponseWriter, r *http.Request, body []byte) {
	var req tailcfg.MapRequest
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, "not a map request", http.StatusBadRequest)
		return
	}
	f := c.faultsFor(r.Context())
	if f.mapStatus != 0 {
		http.Error(w, "fault of the local tailnet", f.mapStatus)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	forget, ok := c.openStream(req.NodeKey, cancel)
	if !ok {
		http.Error(w, "node not found", f.deletedStatus)
		return
	}
	defer forget()
	next.ServeHTTP(&mapWriter{
		ResponseWriter: w,
		ready:          func() error { return c.ready(ctx) },
		rewrite:        func(res *tailcfg.MapResponse) { c.rewrite(ctx, res) },
	}, r.WithContext(ctx))
	if !req.Stream {
		c.announce() // its Hostinfo is stored now
	}
}

// openStream notes a poll of a member, so that hangUp can end it.
func (c *control) openStream(k key.NodePublic, cancel context.CancelFunc) (forget func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[k]
	if !n.alive() {
		return nil, false
	}
	c.streamID++
	id := c.streamID
	if n.streams == nil {
		n.streams = map[int]context.CancelFunc{}
	}
	n.streams[id] = cancel
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(n.streams, id)
	}, true
}

func (c *control) rewrite(ctx context.Context, res *tailcfg.MapResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	view{
		faults:   c.faults.get(),
		nodes:    c.nodes,
		caps:     c.caps,
		relay:    c.relay,
		relayIPs: c.relayIPs,
		now:      c.now(ctx),
	}.apply(res)
}

// setDNS publishes the record that proves a name to the CA.
func (c *control) setDNS(_ http.Handler, w http.ResponseWriter, r *http.Request, body []byte) {
	var req tailcfg.SetDNSRequest
	if err := json.Unmarshal(body, &req); err != nil || req.Type != "TXT" {
		http.Error(w, "only TXT records can be set", http.StatusBadRequest)
		return
	}
	f := c.faults.get()
	if !pause(r.Context(), f.dnsDelay) {
		return
	}
	c.mu.Lock()
	n := c.nodes[req.NodeKey]
	owns := n.alive() && req.Name == "_acme-challenge."+n.label+"."+f.domain
	c.mu.Unlock()
	switch {
	case f.dnsError != "":
		http.Error(w, f.dnsError, http.StatusInternalServerError)
		return
	case !owns:
		http.Error(w, "the name is not this node's", http.StatusForbidden)
		return
	case !f.dnsSwallow:
		c.dns.addTXT(req.Name, req.Value)
	}
	writeJSON(w, tailcfg.SetDNSResponse{})
}

// setIngress makes a node the only one that may bring Funnel traffic, and marks it as
// real ingress nodes are: unsigned, so that it reaches the peerAPI and nothing else.
// Without the mark, tailscale 1.102.0 looked healthy while it refused all of Funnel.
func (c *control) setIngress(k key.NodePublic, ips []netip.Addr) {
	c.mu.Lock()
	c.relay = k
	c.relayIPs = nil
	for _, ip := range ips {
		c.relayIPs = append(c.relayIPs, ip.String())
	}
	c.mu.Unlock()
	c.server.SetUnsignedPeerAPIOnly(k, true)
}

// poke sends every node a new netmap. Setting the policy to what it is does just that.
func (c *control) poke() { c.server.SetSSHPolicy(nil) }

// announce wakes those who wait in changes.
func (c *control) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// changes returns a channel that is closed at the next news of any node.
func (c *control) changes() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *control) close() error { return errors.Join(c.http.close(), c.ownHTTP.close()) }
