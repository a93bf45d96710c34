package main

import (
	"fmt"
	"strings"
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
	if doc.Node.KeyExpiry != nil {
		x.one("node_key_expiry_timestamp_seconds", "gauge", "When the node key expires.", unix(*doc.Node.KeyExpiry))
	}
}

// writeEdge adds what the public side counted.
func (x *exposition) writeEdge(e *edge) {
	x.family("requests_total", "counter", "Requests at the edge by outcome.")
	for o := range outcomes {
		x.sample("requests_total", "outcome", o.String(), float64(e.requests[o].Load()))
	}
	x.one("connections", "gauge", "Open public connections.", float64(e.open.Load()))
	x.one("connections_total", "counter", "Public connections accepted.", float64(e.accepted.Load()))
	x.one("connections_refused_total", "counter", "Public connections closed unread.", float64(e.refused.Load()))
	x.one("handshake_errors_total", "counter", "TLS handshakes that failed.", float64(e.handshakeErrors.Load()))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.Unix()) }
