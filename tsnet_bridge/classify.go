package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tailscale.com/ipn"
)

// Health codes of the backend that mean something here.
const (
	healthLogin   = "login-state"
	healthLogging = "local-log-config-error"
	healthFilter  = "invalid-packet-filter"
)

// offlineGrace is how long Self.Online may be false before it is worth a word:
// a map poll that is renewed goes through false too.
const offlineGrace = 15 * time.Second

// notFoundTwice is how often control must say that it does not know the node.
const notFoundTwice = 2

// signals is everything that was seen of the node, as raw as it came.
type signals struct {
	// What was asked for.
	Hostname   string
	AnyName    bool   // another name will do
	KeptName   string // of the node that this state folder served last
	KeyKept    bool   // an auth key can be had that this login has not used
	KeyDropped bool   // a key that was kept back was refused: it is not offered any more
	ForeignURL bool   // a control server that is neither Tailscale's nor the tests'

	// What the API said that makes auth keys.
	MintError   string
	MintRefused bool // it said no

	// What the backend said.
	StartError string            // text of tsnet's Start
	Backend    ipn.State         // last state on the bus
	ErrMessage string            // last error on the bus; the bus does not repeat it
	Health     map[string]string // warnable code to text
	BrowseURL  string
	WasRunning bool // Running was seen in this process
	NotFound   int  // how often the log said that control does not know the node

	// What the status said.
	DNSName     string
	CertDomains []string
	Tags        []string
	KeyExpiry   time.Time
	OfflineFor  time.Duration // since Self.Online went false; 0 is online
	Patience    time.Duration // from when on OfflineFor means something
	AccessError string        // text of ipn.CheckFunnelAccess

	// What the certificate and the listener are at.
	CertNotAfter    time.Time // zero: none yet
	CertInWeek      int       // certificates for this name in the CA's period
	CertError       string
	CertRateLimited bool
	CertRetryAt     time.Time
	ListenError     string // text of tsnet's ListenFunnel
	Listening       bool

	// What the looks at the public address found.
	Watched   bool // there are looks
	Answered  bool // since this name is served
	PathDown  bool // several looks in a row failed
	PathFault probeFault
	PathError string

	Now time.Time
}

// verdict is what the signals mean.
type verdict struct{ State, Code, Message, Hint string }

// A rule looks at the signals and says what they mean, or that it does not know.
type rule func(signals) (verdict, bool)

// rules are asked in this order; the first that knows decides.
var rules = []rule{
	startRefused, loggingRequired, keyRejected, keyNotMade, approvalNeeded, controlAway, loginNeeded, notRunning,
	nameConflict, funnelRefused, certMissing, notListening, gone, filterRefused, pathDown, controlLost, unanswered, certOver,
}

// classify says what the signals mean. It is pure: same signals, same verdict.
func classify(s signals) verdict {
	for _, r := range rules {
		if v, ok := r(s); ok {
			return v
		}
	}
	return verdict{State: stateReady, Message: "the public address is served"}
}

// whileServing is degraded when the listener is open, for it goes on serving
// and closing it would only make things worse; else the given state.
func (s signals) whileServing(state string) string {
	if s.Listening {
		return stateDegraded
	}
	return state
}

// startHints maps a part of the text of tsnet's Start to what can be done.
var startHints = []struct{ part, code, hint string }{
	{"no space left on device", codeStateDirUnwritable, "free at least 1 MiB where state_dir is"},
	{"read-only file system", codeStateDirUnwritable, "mount a writable volume at state_dir"},
	{"permission denied", codeStateDirUnwritable, "give state_dir to the user that runs repo-guardian: chown -R"},
	{"logpolicy.", codeNodeStartFailed, "delete tailscaled.log.conf in state_dir; it holds only a log id"},
	{"unexpected end of JSON input", codeNodeStartFailed, "tailscaled.state is damaged: put a copy back, or delete it and log in again"},
	{"netlink", codeNodeStartFailed, "allow AF_NETLINK sockets in the sandbox (systemd: RestrictAddressFamilies=… AF_NETLINK)"},
	{"address family not supported", codeNodeStartFailed, "allow AF_NETLINK sockets in the sandbox (systemd: RestrictAddressFamilies=… AF_NETLINK)"},
	{"/proc/self/exe", codeNodeStartFailed, "mount /proc"},
}

func startRefused(s signals) (verdict, bool) {
	if s.StartError == "" {
		return verdict{}, false
	}
	for _, h := range startHints {
		if !strings.Contains(s.StartError, h.part) {
			continue
		}
		state := stateFailed
		if h.code == codeStateDirUnwritable {
			state = stateStarting // it is tried again, and room may be made
		}
		return verdict{state, h.code, "the node did not start: " + s.StartError, h.hint}, true
	}
	return verdict{stateFailed, codeNodeStartFailed, "the node did not start: " + s.StartError,
		"see the log for the cause (repo-guardian funnel logs)"}, true
}

func loggingRequired(s signals) (verdict, bool) {
	const text = "tailnet requires logging to be enabled"
	if !strings.Contains(s.ErrMessage, text) && !strings.Contains(s.Health[healthLogging], text) {
		return verdict{}, false
	}
	return verdict{stateFailed, codeLoggingRequired,
		"the tailnet requires client logs and they are switched off",
		"unset TS_NO_LOGS_NO_SUPPORT, or end network flow logs in the tailnet"}, true
}

func keyRejected(s signals) (verdict, bool) {
	for _, text := range []string{s.ErrMessage, s.Health[healthLogin]} {
		if _, reason, found := strings.Cut(text, "invalid key: "); found && !s.KeyDropped {
			return verdict{stateFailed, codeAuthKeyRejected, "control refused the auth key: " + reason,
				"make a new auth key at https://login.tailscale.com/admin/settings/keys and set TS_AUTHKEY"}, true
		}
	}
	if strings.Contains(s.ErrMessage, "requested tags") {
		return verdict{stateFailed, codeAuthKeyRejected, "control refused the tags: " + s.ErrMessage,
			"name the tags in tagOwners of the tailnet policy and give them to the auth key"}, true
	}
	return verdict{}, false
}

// keyNotMade is the API that turns an OAuth client secret or a workload identity
// into an auth key: away, or saying no.
func keyNotMade(s signals) (verdict, bool) {
	switch {
	case s.MintError == "", s.KeyDropped:
		return verdict{}, false
	case s.MintRefused:
		return verdict{stateFailed, codeAuthKeyRejected, "no auth key was made: " + s.MintError,
			"the OAuth client or the workload identity needs the scope auth_keys and the node's tags: " +
				"https://login.tailscale.com/admin/settings/trust-credentials; then set TS_CLIENT_SECRET or TS_CLIENT_ID"}, true
	}
	return verdict{s.whileServing(stateAuthenticating), codeControlUnreachable, "the API that makes the auth key does not answer: " + s.MintError,
		"nothing to do if it comes back; else check the network and HTTPS_PROXY"}, true
}

func controlAway(s signals) (verdict, bool) {
	// A login address is an answer: what was said before it is over.
	if s.Backend == ipn.Running || s.BrowseURL != "" && !s.KeyKept {
		return verdict{}, false
	}
	text := s.Health[healthLogin]
	if strings.Contains(s.ErrMessage, "rate limited") {
		text = s.ErrMessage
	}
	for _, part := range []string{"fetch control key", "register request", "rate limited"} {
		if strings.Contains(text, part) && !strings.Contains(text, "context canceled") {
			_, reason, found := strings.Cut(text, "The last login error was: ")
			if !found {
				reason = text
			}
			return verdict{s.whileServing(stateAuthenticating), codeControlUnreachable,
				"the control server does not take the login: " + reason,
				"nothing to do if it comes back; else check the network, HTTPS_PROXY and TS_CONTROL_URL"}, true
		}
	}
	return verdict{}, false
}

func approvalNeeded(s signals) (verdict, bool) {
	return verdict{s.whileServing(stateAwaitingApproval), codeNeedsApproval,
		"an admin of the tailnet must approve this node",
		"approve it at https://login.tailscale.com/admin/machines, or use a pre-approved auth key"}, s.Backend == ipn.NeedsMachineAuth
}

func loginNeeded(s signals) (verdict, bool) {
	switch {
	case s.Backend != ipn.NeedsLogin:
		return verdict{}, false
	case s.WasRunning && s.expired():
		return verdict{stateAuthenticating, codeNodeExpired,
			"the node key expired at " + s.KeyExpiry.UTC().Format(time.RFC3339), expiredHint(s)}, true
	case s.BrowseURL != "" && !s.KeyKept:
		return verdict{stateAuthenticating, codeNeedsLogin, "a person must open the login address",
			"open " + s.BrowseURL + " in a browser, or set TS_AUTHKEY and start again"}, true
	case s.ErrMessage != "":
		return verdict{stateAuthenticating, codeLoginFailed, "control refused the login: " + s.ErrMessage,
			"see https://login.tailscale.com/admin/machines; the login is tried again by itself"}, true
	}
	return verdict{State: stateAuthenticating, Message: "logging in"}, true
}

// expired reports whether the node key has ended.
func (s signals) expired() bool { return !s.KeyExpiry.IsZero() && s.KeyExpiry.Before(s.Now) }

func expiredHint(s signals) string {
	if s.BrowseURL != "" {
		return "open " + s.BrowseURL + " in a browser; a tagged node's key never expires"
	}
	return "extend the key at https://login.tailscale.com/admin/machines, or start again for a login address; a tagged node's key never expires"
}

func notRunning(s signals) (verdict, bool) {
	switch s.Backend {
	case ipn.Running:
		return verdict{State: stateStarting, Message: "reading the network map"}, s.DNSName == ""
	case ipn.Stopped:
		return verdict{stateFailed, codeNodeStartFailed, "control or the backend switched the node off",
			"start repo-guardian again; see the log for the cause"}, true
	}
	if s.WasRunning {
		return verdict{State: s.whileServing(stateStarting), Message: "the node is connecting again"}, true
	}
	return verdict{State: stateStarting, Message: "connecting to the tailnet"}, true
}

// given is the name that the node has.
func (s signals) given() string {
	name, _, _ := strings.Cut(s.DNSName, ".")
	return name
}

// numbered reports whether given is wanted with the number that control adds to
// a name that is taken.
func numbered(given, wanted string) bool {
	number, found := strings.CutPrefix(given, wanted+"-")
	_, err := strconv.Atoi(number)
	return found && err == nil
}

// conflict reports whether the name is one that nobody chose. A node that has
// served may be renamed by its admin, and is followed.
func (s signals) conflict() bool {
	given := s.given()
	if given == s.Hostname || s.AnyName || given == s.KeptName {
		return false
	}
	return s.KeptName == "" || numbered(given, s.Hostname)
}

// nameConflict comes before the certificate: one for the wrong name would count
// against the CA's weekly limit.
func nameConflict(s signals) (verdict, bool) {
	given := s.given()
	return verdict{s.whileServing(stateAwaitingFunnel), codeNameConflict,
		fmt.Sprintf("control named this node %q, wanted was %q: the public address would be another one", given, s.Hostname),
		fmt.Sprintf("remove the other node %q at https://login.tailscale.com/admin/machines and rename this one to it, or set TS_ACCEPT_NAME=true to serve as %q", s.Hostname, given),
	}, s.conflict()
}

// Texts of ipn.CheckFunnelAccess and tsnet's ListenFunnel; one of them comes
// with and without a dot at the end.
const (
	textNoHTTPS  = "Funnel not available; HTTPS"
	textNoFunnel = `Funnel not available; "funnel"`
	textNoPort   = "is not allowed for funnel"
)

func funnelRefused(s signals) (verdict, bool) {
	state, text := s.whileServing(stateAwaitingFunnel), s.AccessError
	if text == "" && !s.Listening {
		text = s.ListenError
	}
	noHTTPS := strings.HasPrefix(text, textNoHTTPS) || len(s.CertDomains) == 0
	switch {
	case noHTTPS && s.ForeignURL:
		return verdict{state, codeControlWithoutFunnel, "this control server offers no Funnel",
			"unset TS_CONTROL_URL to use Tailscale's own, or make the webhook reachable in another way and set TAILSCALE_FUNNEL=false"}, true
	case noHTTPS:
		return verdict{state, codeHTTPSDisabled, "HTTPS certificates are off in the tailnet",
			"switch on MagicDNS and HTTPS Certificates at https://login.tailscale.com/admin/dns"}, true
	case strings.HasPrefix(text, textNoFunnel):
		return verdict{state, codeFunnelAttrMissing, "the tailnet policy gives this node no funnel attribute",
			"add to the policy at https://login.tailscale.com/admin/acls/file: " + funnelPolicy(s.Tags)}, true
	case strings.Contains(text, textNoPort):
		return verdict{state, codePortNotAllowed, text, portHint(text)}, true
	}
	return verdict{}, false
}

// funnelPolicy is the part of the policy that lets this node use Funnel.
// autogroup:member does not match a tagged node, so its tags are named.
func funnelPolicy(tags []string) string {
	targets := []string{`"autogroup:member"`}
	if len(tags) > 0 {
		targets = nil
		for _, tag := range tags {
			targets = append(targets, strconv.Quote(tag))
		}
	}
	return `"nodeAttrs": [{"target": [` + strings.Join(targets, ", ") + `], "attr": ["funnel"]}]`
}

var portRange = regexp.MustCompile(`(\d+)(?:-(\d+))?`)

// portHint names the ports that Funnel has and that the policy allows.
func portHint(text string) string {
	_, list, _ := strings.Cut(text, "allowed ports are: ")
	var allowed []string
	for _, port := range funnelPorts {
		if slices.ContainsFunc(portRange.FindAllStringSubmatch(list, -1), func(m []string) bool {
			low, _ := strconv.Atoi(m[1])
			high, err := strconv.Atoi(m[2])
			if err != nil {
				high = low
			}
			return low <= port && port <= high
		}) {
			allowed = append(allowed, strconv.Itoa(port))
		}
	}
	if len(allowed) == 0 {
		return "allow a Funnel port (443, 8443 or 10000) in the tailnet policy"
	}
	return "set TS_FUNNEL_PORT=" + strings.Join(allowed, " or ")
}

func certMissing(s signals) (verdict, bool) {
	switch {
	case !s.CertNotAfter.IsZero():
		return verdict{}, false
	case s.CertError == "":
		return verdict{State: stateIssuing, Message: "asking the certificate authority"}, true
	case s.CertRateLimited:
		return verdict{stateIssuing, codeCertRateLimited,
			"the certificate authority limits this name: " + s.CertError,
			"wait: tried again at " + s.CertRetryAt.UTC().Format(time.RFC3339) + "; keep state_dir, a lost one costs a new certificate"}, true
	}
	return verdict{stateIssuing, codeCertFailed, "no certificate yet: " + s.CertError,
		certHint(s.CertError) + "; tried again at " + s.CertRetryAt.UTC().Format(time.RFC3339)}, true
}

func certHint(text string) string {
	switch {
	case strings.Contains(text, "no space left"):
		return "free at least 1 MiB where state_dir is"
	case strings.Contains(text, `SetDNS "`):
		return "Tailscale did not take the DNS record; see https://status.tailscale.com"
	case strings.Contains(text, "dial tcp"), strings.Contains(text, "acme.GetReg"):
		return "check that https://acme-v02.api.letsencrypt.org can be reached from here"
	}
	return "see the log for the whole exchange (LOG_LEVEL=debug)"
}

func notListening(s signals) (verdict, bool) {
	if s.Listening {
		return verdict{}, false
	}
	if s.ListenError != "" {
		return verdict{stateAwaitingFunnel, codeFunnelFailed, "the Funnel could not be opened: " + s.ListenError,
			"tried again by itself; see the log for the cause"}, true
	}
	return verdict{State: stateAwaitingFunnel, Message: "opening the Funnel"}, true
}

// gone is a node that control has forgotten: it stays Running for ever.
func gone(s signals) (verdict, bool) {
	hint := "set a new TS_AUTHKEY and start again"
	if s.BrowseURL != "" {
		hint = "open " + s.BrowseURL + " in a browser, or " + hint
	}
	return verdict{stateDegraded, codeNodeDeleted, "the node was removed from the tailnet", hint}, s.deleted()
}

// deleted needs both signs: either alone is also seen when control has a bad day.
func (s signals) deleted() bool { return s.NotFound >= notFoundTwice && s.OfflineFor >= s.Patience }

func filterRefused(s signals) (verdict, bool) {
	text := s.Health[healthFilter]
	return verdict{stateDegraded, codePublicPathDown, text,
		"the tailnet's packet filter names a node that tailnet lock has not signed; see https://tailscale.com/kb/1226/tailnet-lock"}, text != ""
}

// pathHints say what to do about a public path that is down, by where it ends.
var pathHints = map[probeFault]string{
	faultDNS: "the DNS record of a new name can take ten minutes; if it stays away, see `dig NAME` and https://status.tailscale.com, " +
		"or name another DNS server in FUNNEL_PROBE_RESOLVER",
	faultTailnet: "the DNS server here answers for the tailnet (MagicDNS): set FUNNEL_PROBE_RESOLVER=1.1.1.1:53, or FUNNEL_PROBE=false",
	faultConnect: "if this machine may not open connections to port 443, set HTTPS_PROXY or FUNNEL_PROBE=false; else see https://status.tailscale.com",
	faultTLS:     "the ingress does not reach this node: see https://status.tailscale.com and `repo-guardian funnel logs`",
	faultAnswer:  "something else answers at this name: compare `repo-guardian funnel status` with https://login.tailscale.com/admin/machines",
}

func pathDown(s signals) (verdict, bool) {
	return verdict{stateDegraded, codePublicPathDown,
		"the public address does not answer (" + string(s.PathFault) + "): " + s.PathError, pathHints[s.PathFault]}, s.PathDown
}

func controlLost(s signals) (verdict, bool) {
	return verdict{stateDegraded, codeControlUnreachable,
		"the control server does not answer; requests are still served",
		"nothing to do if it comes back; do not restart, a new start needs the control server"}, s.OfflineFor >= s.Patience
}

// unanswered is an address that is served as far as we can tell from inside.
func unanswered(s signals) (verdict, bool) {
	message := "waiting for the first answer through the public address"
	if s.PathError != "" {
		message += " (" + string(s.PathFault) + ": " + s.PathError + ")"
	}
	return verdict{State: stateAwaitingFunnel, Message: message}, s.Watched && !s.Answered
}

func certOver(s signals) (verdict, bool) {
	return verdict{stateDegraded, codeCertFailed, "the certificate has ended and was not renewed: " + s.CertError,
		certHint(s.CertError)}, s.CertNotAfter.Before(s.Now)
}
