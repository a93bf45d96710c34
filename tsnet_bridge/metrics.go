package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

const metricPrefix = "repo_guardian_bridge_"

// exposition collects metrics in Prometheus' text format.
type exposition struct{ strings.Builder }

// family begins a metric: kind is counter or gauge.
func (x *exposition) family(name, kind, help string) {
	fmt.Fprintf(x, "# HELP %[1]s%[2]s %[4]s\n# TYPE %[1]s%[2]s %[3]s\n", metricPrefix, name, kind, help)
}

// one writes a metric that has one sample.
func (x *exposition) one(name, kind, help string, value float64) {
	x.family(name, kind, help)
	x.sample(name, "", "", value)
}

// sample writes one sample of a family; label may be empty. Label values come
// from closed sets, so nothing has to be escaped.
func (x *exposition) sample(name, label, of string, value float64) {
	if label != "" {
		name = fmt.Sprintf("%s{%s=%q}", name, label, of)
	}
	fmt.Fprintf(x, "%s%s %v\n", metricPrefix, name, value)
}

var allStates = []string{
	stateStarting, stateAuthenticating, stateAwaitingApproval, stateAwaitingFunnel, stateIssuing,
	stateReady, stateDegraded, stateDraining, stateStopped, stateFailed,
}

// writeStatus adds what the status document knows. Restarts and the certificate
// are the parent's metrics: they must be there while we are not.
func (x *exposition) writeStatus(doc status) {
	x.family("state", "gauge", "1 for the present state, 0 for the others.")
	for _, state := range allStates {
		x.sample("state", "state", state, truth(state == doc.State))
	}
	x.one("cert_issued_in_week", "gauge", "Certificates for this name in the CA's period of a week; it makes five.", float64(doc.Cert.IssuedInWeek))
	if doc.URL != "" {
		x.family("public_url_info", "gauge", "1, with the public address.")
		x.sample("public_url_info", "url", doc.URL, 1)
	}
	if doc.Node.KeyExpiry != nil {
		x.one("node_key_expiry_timestamp_seconds", "gauge", "When the node key expires.", unix(*doc.Node.KeyExpiry))
	}
}

// writeWatchdog adds what the looks at the public address found.
func (x *exposition) writeWatchdog(w *watchdog) {
	x.family("probes_total", "counter", "Looks at the own public address by outcome.")
	for i, outcome := range []string{"failed", "answered"} {
		x.sample("probes_total", "outcome", outcome, float64(w.looks[i].Load()))
	}
	x.family("repairs_total", "counter", "Remedies that the watchdog tried.")
	for i, how := range []string{"listen_again", "replace_child"} {
		x.sample("repairs_total", "how", how, float64(w.repairs[i].Load()))
	}
}

// writeEdge adds what the public side counted.
func (x *exposition) writeEdge(e *edge) {
	counts(x, "requests_total", "outcome", "Requests at the edge by outcome.", e.requests[:], outcome.String)
	x.one("connections", "gauge", "Open public connections.", float64(e.open.Load()))
	x.one("connections_total", "counter", "Public connections accepted.", float64(e.accepted.Load()))
	counts(x, "connections_refused_total", "reason", "Public connections closed unread.", e.unread[:], unread.String)
	counts(x, "connection_timeouts_total", "phase", "Public connections given up for slowness.", e.timeouts[:], timeoutPhase.String)
	counts(x, "handshake_errors_total", "reason", "TLS handshakes that failed.", e.handshakes[:], handshakeReason.String)
	x.one("sources", "gauge", "Callers that the limits remember.", float64(e.sources.count(time.Now())))
}

// counts writes a counter for each value of a closed set.
func counts[T ~int](x *exposition, name, label, help string, values []atomic.Int64, text func(T) string) {
	x.family(name, "counter", help)
	for i := range values {
		x.sample(name, label, text(T(i)), float64(values[i].Load()))
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.Unix()) }
