package main

// outcome is how a request at the edge ended; a label of the metrics.
type outcome int

const (
	outcomeForwarded outcome = iota
	outcomeNotFound
	outcomeMalformed
	outcomeTooLarge
	outcomeBusy
	outcomeLimited
	outcomeTimeout
	outcomeForbidden
	outcomeUnavailable
	outcomeAborted
	outcomeProbe
	outcomes // how many there are
)

// String is the metric's label.
func (o outcome) String() string {
	return [outcomes]string{
		"forwarded", "not_found", "malformed", "too_large", "busy", "limited",
		"timeout", "forbidden", "unavailable", "aborted", "probe",
	}[o]
}

// unread is why a connection was closed unread; a label of the metrics.
type unread int

const (
	unreadCap    unread = iota // all callers together have too many
	unreadSource               // this one has
	unreadRate                 // this one has spent its answers too
	unreads
)

// String is the metric's label.
func (u unread) String() string { return [unreads]string{"cap", "source", "rate"}[u] }

// handshakeReason is why a handshake failed; a label of the metrics.
type handshakeReason int

const (
	handshakeUnknownName handshakeReason = iota
	handshakeVersion
	handshakeNoTLS
	handshakeTimeout
	handshakeHungUp
	handshakeRefused // by the caller: it did not like our certificate
	handshakeOther
	handshakeReasons
)

// String is the metric's label.
func (h handshakeReason) String() string {
	return [handshakeReasons]string{
		"unknown_name", "protocol_version", "no_tls", "timeout", "hung_up", "refused_by_caller", "other",
	}[h]
}

// timeoutPhase is where a connection was given up; a label of the metrics.
type timeoutPhase int

const (
	timeoutHeader timeoutPhase = iota
	timeoutIdle
	timeoutWrite
	timeoutPhases
)

// String is the metric's label.
func (p timeoutPhase) String() string { return [timeoutPhases]string{"header", "idle", "write"}[p] }
