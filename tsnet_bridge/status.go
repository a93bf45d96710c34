package main

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// States of the bridge, as docs/bridge-protocol.md names them.
const (
	stateStarting         = "starting"
	stateAuthenticating   = "authenticating"
	stateAwaitingApproval = "awaiting_approval"
	stateAwaitingFunnel   = "awaiting_funnel"
	stateIssuing          = "issuing_certificate"
	stateReady            = "ready"
	stateDegraded         = "degraded"
	stateDraining         = "draining"
	stateStopped          = "stopped"
	stateFailed           = "failed"
)

// status is the status document. A reader ignores fields that it does not know.
type status struct {
	Protocol int         `json:"protocol"`
	State    string      `json:"state"`
	Since    time.Time   `json:"since"`
	Code     string      `json:"code"`
	Message  string      `json:"message"`
	Hint     string      `json:"hint"`
	URL      string      `json:"url"`
	AuthURL  string      `json:"auth_url"`
	Cert     certStatus  `json:"cert"`
	Probe    probeStatus `json:"probe"`
	Node     nodeStatus  `json:"node"`
	Restarts int         `json:"restarts"`
	PID      int         `json:"pid"`
	Versions versions    `json:"versions"`
}

// certStatus tells when the served certificate ends and when it is renewed.
type certStatus struct {
	NotAfter     *time.Time `json:"not_after"`
	RenewAt      *time.Time `json:"renew_at"`
	IssuedInWeek int        `json:"issued_in_week"` // for this name; the CA makes weeklyBudget
}

// probeStatus is the last request of the watchdog through the public path.
type probeStatus struct {
	OK        *bool      `json:"ok"`
	At        *time.Time `json:"at"`
	LatencyMS *float64   `json:"latency_ms"`
	Error     string     `json:"error"`
	Addresses []string   `json:"addresses"` // what public DNS said
}

// nodeStatus is what control says about this node.
type nodeStatus struct {
	DNSName   string     `json:"dns_name"`
	IPs       []string   `json:"ips"`
	KeyExpiry *time.Time `json:"key_expiry"`
	Tags      []string   `json:"tags"`
	Online    *bool      `json:"online"` // whether control holds our map poll
}

type versions struct {
	Bridge    string `json:"bridge"`
	Tailscale string `json:"tailscale"`
	Go        string `json:"go"`
}

func thisVersion() versions {
	v := versions{Bridge: version, Tailscale: "unknown", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "tailscale.com" {
				v.Tailscale = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return v
}

// versionLine is the answer to --version.
func versionLine() string {
	v := thisVersion()
	return fmt.Sprintf("tsnet_bridge %s protocol %d tailscale %s %s", v.Bridge, protocolVersion, v.Tailscale, v.Go)
}

// subscriberRoom is how many changes a slow reader may be behind before its
// stream is cut, so that it asks again instead of seeing an old state.
const subscriberRoom = 32

// board holds the one status document. The node is its only writer.
type board struct {
	redact redactor

	mu     sync.Mutex
	doc    status
	subs   map[chan status]struct{}
	closed bool
}

func newBoard(cfg config, redact redactor) *board {
	return &board{
		redact: redact,
		subs:   map[chan status]struct{}{},
		doc: status{
			Protocol: protocolVersion,
			State:    stateStarting,
			Since:    seconds(time.Now()),
			Probe:    look{}.document(),
			Node:     nodeStatus{IPs: []string{}, Tags: []string{}},
			Restarts: cfg.Restarts,
			PID:      os.Getpid(),
			Versions: thisVersion(),
		},
	}
}

// seconds is t as the document writes it.
func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// secondsOrNil is t as the document writes it, null when unknown.
func secondsOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = seconds(t)
	return &t
}

// current returns the present document.
func (b *board) current() status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.doc
}

// update changes the document and tells the subscribers when something did
// change; it reports whether state or code did.
func (b *board) update(change func(*status)) (moved bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := b.doc
	change(&next)
	next.Message, next.Hint = b.redact.text(next.Message), b.redact.text(next.Hint)
	next.Probe.Error = b.redact.text(next.Probe.Error)
	if reflect.DeepEqual(next, b.doc) {
		return false
	}
	moved = next.State != b.doc.State || next.Code != b.doc.Code
	if moved {
		next.Since = seconds(time.Now())
	}
	b.doc = next
	for sub := range b.subs {
		select {
		case sub <- next:
		default:
			b.drop(sub)
		}
	}
	return moved
}

// subscribe returns the present document and a channel with every later one.
// The channel is closed when the reader is too slow or the bridge has stopped.
func (b *board) subscribe() (status, <-chan status, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sub := make(chan status, subscriberRoom)
	if b.closed {
		close(sub)
		return b.doc, sub, func() {}
	}
	b.subs[sub] = struct{}{}
	return b.doc, sub, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.drop(sub)
	}
}

// close ends every subscription; what was sent before is still read.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for sub := range b.subs {
		b.drop(sub)
	}
}

// drop ends one subscription. b.mu must be held.
func (b *board) drop(sub chan status) {
	if _, there := b.subs[sub]; there {
		delete(b.subs, sub)
		close(sub)
	}
}
