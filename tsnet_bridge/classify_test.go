package main

import (
	"strings"
	"testing"
	"time"

	"tailscale.com/ipn"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Texts as a real backend gave them (facts/tsnet_signals.md).
const (
	loggedOut  = "You are logged out. The last login error was: "
	noKey      = "invalid key: API key does not exist"
	keyFetch   = `fetch control key: Get "http://127.0.0.1:1/key?v=142": dial tcp 127.0.0.1:1: connect: connection refused`
	noLogs     = "tailnet requires logging to be enabled. Remove --no-logs-no-support from tailscaled command line."
	noHTTPS    = "Funnel not available; HTTPS must be enabled. See https://tailscale.com/s/https."
	noCertName = "Funnel not available; HTTPS must be enabled. See https://tailscale.com/s/https"
	noFunnel   = `Funnel not available; "funnel" node attribute not set. See https://tailscale.com/s/no-funnel.`
	badFilter  = "The coordination server sent an invalid packet filter permitting traffic to unlocked nodes; rejecting all packets for safety"
	setDNS     = `SetDNS "_acme-challenge.g.tail-box.ts.net." => "x": set-dns response: 500 Internal Server Error, no`
)

// fresh has just started, running is in the tailnet, serving is ready.
func fresh(change func(*signals)) signals {
	s := signals{Hostname: "guard", Backend: ipn.NeedsLogin, Patience: offlineGrace, Now: noon}
	change(&s)
	return s
}

func running(change func(*signals)) signals {
	return fresh(func(s *signals) {
		s.Backend, s.WasRunning, s.DNSName = ipn.Running, true, "guard.tail-box.ts.net"
		s.CertDomains = []string{s.DNSName}
		change(s)
	})
}

func serving(change func(*signals)) signals {
	return running(func(s *signals) {
		s.CertNotAfter, s.Listening = noon.Add(time.Hour), true
		change(s)
	})
}

var verdicts = []struct {
	name        string
	signals     signals
	state, code string
	says        string // a part of message or hint
}{
	{"nothing yet", signals{Hostname: "guard"}, stateStarting, "", ""},
	{"the first moments of a first start", fresh(func(*signals) {}), stateAuthenticating, "", "logging in"},
	{"starting", fresh(func(s *signals) { s.Backend = ipn.Starting }), stateStarting, "", ""},
	{"running, no status yet", fresh(func(s *signals) { s.Backend = ipn.Running }), stateStarting, "", ""},

	{"wrong key", fresh(func(s *signals) { s.ErrMessage = noKey }), stateFailed, codeAuthKeyRejected, "API key does not exist"},
	{"wrong key, seen late", fresh(func(s *signals) { s.Health = map[string]string{healthLogin: loggedOut + noKey} }), stateFailed, codeAuthKeyRejected, "TS_AUTHKEY"},
	{"key not valid", fresh(func(s *signals) { s.ErrMessage = "invalid key: API key kXYZ not valid" }), stateFailed, codeAuthKeyRejected, ""},
	{"key not checked", fresh(func(s *signals) { s.ErrMessage = "invalid key: unable to validate API key" }), stateFailed, codeAuthKeyRejected, ""},
	{"tags not permitted", fresh(func(s *signals) { s.ErrMessage = "requested tags [tag:guardian] are invalid or not permitted" }), stateFailed, codeAuthKeyRejected, "tagOwners"},
	{"no key", fresh(func(s *signals) { s.BrowseURL = "https://login.tailscale.com/a/1" }), stateAuthenticating, codeNeedsLogin, "https://login.tailscale.com/a/1"},
	{"a login is wanted and a key was kept back", fresh(func(s *signals) { s.BrowseURL, s.KeyKept = "https://x", true }), stateAuthenticating, "", ""},
	{"another refusal", fresh(func(s *signals) { s.ErrMessage = "your account is frozen" }), stateAuthenticating, codeLoginFailed, "your account is frozen"},
	{"register 429", fresh(func(s *signals) { s.ErrMessage = "node registration rate limited; will retry after 7s" }), stateAuthenticating, codeControlUnreachable, "after 7s"},
	{"register 429, then a login address", fresh(func(s *signals) {
		s.ErrMessage, s.BrowseURL = "node registration rate limited; will retry after 7s", "https://x"
	}), stateAuthenticating, codeNeedsLogin, "https://x"},
	{"register 429, then approval wanted", fresh(func(s *signals) {
		s.Backend, s.ErrMessage = ipn.NeedsMachineAuth, "node registration rate limited; will retry after 7s"
	}), stateAwaitingApproval, codeNeedsApproval, ""},
	{"stale key dropped", serving(func(s *signals) {
		s.Backend, s.KeyExpiry, s.KeyDropped = ipn.NeedsLogin, noon.Add(-time.Second), true
		s.Health = map[string]string{healthLogin: loggedOut + noKey}
	}), stateAuthenticating, codeNodeExpired, ""},
	{"register 500", fresh(func(s *signals) {
		s.Health = map[string]string{healthLogin: loggedOut + "register request: http 500: fault"}
	}), stateAuthenticating, codeControlUnreachable, "http 500"},
	{"control away at the first start", fresh(func(s *signals) { s.Health = map[string]string{healthLogin: loggedOut + keyFetch} }), stateAuthenticating, codeControlUnreachable, "connection refused"},
	{"control away at a restart", fresh(func(s *signals) {
		s.Backend, s.Health = ipn.NoState, map[string]string{healthLogin: loggedOut + keyFetch}
	}), stateAuthenticating, codeControlUnreachable, "TS_CONTROL_URL"},
	{"the flash of a forced login", fresh(func(s *signals) {
		s.Health = map[string]string{healthLogin: loggedOut + "register request: context canceled"}
	}), stateAuthenticating, "", ""},
	{"approval wanted", fresh(func(s *signals) { s.Backend = ipn.NeedsMachineAuth }), stateAwaitingApproval, codeNeedsApproval, "admin/machines"},
	{"approval withdrawn", serving(func(s *signals) { s.Backend = ipn.NeedsMachineAuth }), stateDegraded, codeNeedsApproval, ""},
	{"expired", serving(func(s *signals) { s.Backend, s.KeyExpiry = ipn.NeedsLogin, noon.Add(-time.Second) }), stateAuthenticating, codeNodeExpired, "extend the key"},
	{"expired, login address known", serving(func(s *signals) {
		s.Backend, s.KeyExpiry, s.BrowseURL = ipn.NeedsLogin, noon.Add(-time.Second), "https://x"
	}), stateAuthenticating, codeNodeExpired, "open https://x"},
	{"logs wanted", running(func(s *signals) { s.ErrMessage = noLogs }), stateFailed, codeLoggingRequired, "TS_NO_LOGS_NO_SUPPORT"},
	{"logs wanted, seen late", running(func(s *signals) {
		s.Backend, s.Health = ipn.Stopped, map[string]string{healthLogging: "The local log is misconfigured: " + noLogs}
	}), stateFailed, codeLoggingRequired, ""},
	{"switched off", running(func(s *signals) { s.Backend = ipn.Stopped }), stateFailed, codeNodeStartFailed, ""},
	{"connecting again", serving(func(s *signals) { s.Backend = ipn.Starting }), stateDegraded, "", ""},

	{"another name", running(func(s *signals) { s.DNSName = "guard-1.tail-box.ts.net" }), stateAwaitingFunnel, codeNameConflict, "TS_ACCEPT_NAME"},
	{"another name, which will do", running(func(s *signals) { s.DNSName, s.AnyName = "guard-1.tail-box.ts.net", true }), stateIssuing, "", ""},
	{"another name, served before", running(func(s *signals) { s.DNSName, s.KeptName = "guard-1.tail-box.ts.net", "guard-1" }), stateIssuing, "", ""},
	{"renamed by its admin", serving(func(s *signals) { s.DNSName, s.KeptName = "hooks.tail-box.ts.net", "guard" }), stateReady, "", ""},
	{"a new hostname that is taken", serving(func(s *signals) { s.DNSName, s.KeptName = "guard-2.tail-box.ts.net", "old" }), stateDegraded, codeNameConflict, "guard-2"},
	{"a name that only looks numbered", serving(func(s *signals) { s.DNSName, s.KeptName = "guard-eu.tail-box.ts.net", "guard" }), stateReady, "", ""},
	{"another name while serving", serving(func(s *signals) { s.DNSName = "guard-1.tail-box.ts.net" }), stateDegraded, codeNameConflict, ""},
	{"HTTPS off", running(func(s *signals) { s.AccessError = noHTTPS }), stateAwaitingFunnel, codeHTTPSDisabled, "admin/dns"},
	{"HTTPS half on", running(func(s *signals) { s.CertDomains = nil }), stateAwaitingFunnel, codeHTTPSDisabled, ""},
	{"HTTPS half on, said by ListenFunnel", running(func(s *signals) { s.CertNotAfter, s.ListenError = noon.Add(1), noCertName }), stateAwaitingFunnel, codeHTTPSDisabled, ""},
	{"HTTPS off while serving", serving(func(s *signals) { s.CertDomains = nil }), stateDegraded, codeHTTPSDisabled, ""},
	{"another control server", running(func(s *signals) { s.AccessError, s.ForeignURL = noHTTPS, true }), stateAwaitingFunnel, codeControlWithoutFunnel, "TS_CONTROL_URL"},
	{"no attribute", running(func(s *signals) { s.AccessError = noFunnel }), stateAwaitingFunnel, codeFunnelAttrMissing, `"nodeAttrs": [{"target": ["autogroup:member"], "attr": ["funnel"]}]`},
	{"no attribute, tagged", running(func(s *signals) { s.AccessError, s.Tags = noFunnel, []string{"tag:a", "tag:b"} }), stateAwaitingFunnel, codeFunnelAttrMissing, `"target": ["tag:a", "tag:b"]`},
	{"attribute taken while serving", serving(func(s *signals) { s.AccessError = noFunnel }), stateDegraded, codeFunnelAttrMissing, ""},
	{"port", running(func(s *signals) {
		s.AccessError = "port 8443 is not allowed for funnel; allowed ports are: 443,8080"
	}), stateAwaitingFunnel, codePortNotAllowed, "set TS_FUNNEL_PORT=443"},
	{"port ranges", running(func(s *signals) {
		s.AccessError = "port 443 is not allowed for funnel; allowed ports are: 8400-8500,10000"
	}), stateAwaitingFunnel, codePortNotAllowed, "set TS_FUNNEL_PORT=8443 or 10000"},
	{"no port at all", running(func(s *signals) { s.AccessError = "port 443 is not allowed for funnel" }), stateAwaitingFunnel, codePortNotAllowed, "in the tailnet policy"},

	{"certificate asked for", running(func(*signals) {}), stateIssuing, "", ""},
	{"CA away", running(func(s *signals) {
		s.CertError = `acme.GetReg: Get "https://ca/dir": dial tcp: connect: connection refused`
	}), stateIssuing, codeCertFailed, "can be reached"},
	{"DNS record refused", running(func(s *signals) { s.CertError = setDNS }), stateIssuing, codeCertFailed, "status.tailscale.com"},
	{"disk full", running(func(s *signals) { s.CertError = "write /d/certs/g.crt.tmp1: no space left on device" }), stateIssuing, codeCertFailed, "free at least"},
	{"CA limits", running(func(s *signals) {
		s.CertError, s.CertRateLimited, s.CertRetryAt = "429 urn:ietf:params:acme:error:rateLimited: too many", true, noon.Add(time.Hour)
	}), stateIssuing, codeCertRateLimited, "2026-11-23T13:00:00Z"},
	{"opening", running(func(s *signals) { s.CertNotAfter = noon.Add(1) }), stateAwaitingFunnel, "", ""},
	{"opening failed", running(func(s *signals) { s.CertNotAfter, s.ListenError = noon.Add(1), "listener already open" }), stateAwaitingFunnel, codeFunnelFailed, "already open"},

	{"serving", serving(func(*signals) {}), stateReady, "", ""},
	{"a short absence of control", serving(func(s *signals) { s.OfflineFor = 5 * time.Second }), stateReady, "", ""},
	{"control away while serving", serving(func(s *signals) { s.OfflineFor = 20 * time.Second }), stateDegraded, codeControlUnreachable, "do not restart"},
	{"deleted", serving(func(s *signals) { s.OfflineFor, s.NotFound = 20*time.Second, 2 }), stateDegraded, codeNodeDeleted, ""},
	{"control has a bad day", serving(func(s *signals) { s.OfflineFor, s.NotFound = 20*time.Second, 1 }), stateDegraded, codeControlUnreachable, ""},
	{"filter refused", serving(func(s *signals) { s.Health = map[string]string{healthFilter: badFilter} }), stateDegraded, codePublicPathDown, "tailnet lock"},
	{"harmless health", serving(func(s *signals) { s.Health = map[string]string{"warming-up": "Tailscale is starting. Please wait."} }), stateReady, "", ""},
	{"certificate over", serving(func(s *signals) { s.CertNotAfter, s.CertError = noon.Add(-1), "CA away" }), stateDegraded, codeCertFailed, "CA away"},
	{"renewal failed in time", serving(func(s *signals) { s.CertError = "CA away" }), stateReady, "", ""},

	{"disk full at the start", signals{StartError: "tsnet: write /d/tailscaled.state.tmp1: no space left on device"}, stateStarting, codeStateDirUnwritable, "1 MiB"},
	{"read-only", signals{StartError: "tsnet: error creating filch: filch: open /d/tailscaled.log1.txt: read-only file system"}, stateStarting, codeStateDirUnwritable, "writable volume"},
	{"state cut off", signals{StartError: `tsnet: failed to migrate existing TPM-sealed state file to plaintext format: failed to unmarshal "/d/s": unexpected end of JSON input`}, stateFailed, codeNodeStartFailed, "tailscaled.state is damaged"},
	{"log file cut off", signals{StartError: "tsnet: logpolicy.LoadConfig for /d/tailscaled.log.conf: unexpected end of JSON input"}, stateFailed, codeNodeStartFailed, "delete tailscaled.log.conf"},
	{"netlink denied", signals{StartError: "tsnet: route ip+net: netlinkrib: operation not permitted"}, stateFailed, codeNodeStartFailed, "AF_NETLINK"},
	{"no /proc", signals{StartError: "tsnet: readlink /proc/self/exe: no such file or directory"}, stateFailed, codeNodeStartFailed, "/proc"},
	{"API of the keys away", fresh(func(s *signals) { s.MintError = `Post "https://a/oauth/token": dial tcp: connection refused` }), stateAuthenticating, codeControlUnreachable, "connection refused"},
	{"API of the keys away while serving", serving(func(s *signals) { s.Backend, s.MintError = ipn.NeedsLogin, "timeout" }), stateDegraded, codeControlUnreachable, ""},
	{"API of the keys says no", fresh(func(s *signals) { s.MintError, s.MintRefused = "401 Unauthorized", true }), stateFailed, codeAuthKeyRejected, "scope auth_keys"},
	{"API of the keys said no to an enrolled node", serving(func(s *signals) {
		s.Backend, s.KeyExpiry, s.MintError, s.MintRefused, s.KeyDropped = ipn.NeedsLogin, noon.Add(-time.Second), "401", true, true
	}), stateAuthenticating, codeNodeExpired, ""},

	{"no look yet", serving(func(s *signals) { s.Watched = true }), stateAwaitingFunnel, "", "first answer"},
	{"the first look failed", serving(func(s *signals) {
		s.Watched, s.PathFault, s.PathError = true, faultDNS, "no such host"
	}), stateAwaitingFunnel, "", "no such host"},
	{"answered", serving(func(s *signals) { s.Watched, s.Answered = true, true }), stateReady, "", ""},
	{"a look or two failed", serving(func(s *signals) { s.Watched, s.Answered, s.PathFault, s.PathError = true, true, faultTLS, "EOF" }), stateReady, "", ""},
	{"path down, DNS", serving(func(s *signals) {
		s.Watched, s.PathDown, s.PathFault, s.PathError = true, true, faultDNS, "no such host"
	}), stateDegraded, codePublicPathDown, "ten minutes"},
	{"path down, MagicDNS", serving(func(s *signals) {
		s.Watched, s.PathDown, s.PathFault, s.PathError = true, true, faultTailnet, "100.64.0.9"
	}), stateDegraded, codePublicPathDown, "FUNNEL_PROBE_RESOLVER=1.1.1.1:53"},
	{"path down, no way out", serving(func(s *signals) {
		s.Watched, s.PathDown, s.PathFault, s.PathError = true, true, faultConnect, "refused"
	}), stateDegraded, codePublicPathDown, "HTTPS_PROXY"},
	{"path down, ingress", serving(func(s *signals) {
		s.Watched, s.PathDown, s.PathFault, s.PathError = true, true, faultTLS, "EOF"
	}), stateDegraded, codePublicPathDown, "status.tailscale.com"},
	{"path down, somebody else", serving(func(s *signals) {
		s.Watched, s.PathDown, s.PathFault, s.PathError = true, true, faultAnswer, "404"
	}), stateDegraded, codePublicPathDown, "funnel status"},
	{"path down and control away", serving(func(s *signals) {
		s.Watched, s.PathDown, s.PathFault, s.PathError, s.OfflineFor = true, true, faultTLS, "EOF", time.Hour
	}), stateDegraded, codePublicPathDown, ""},
	{"something new", signals{StartError: "tsnet: the moon is full"}, stateFailed, codeNodeStartFailed, "the moon is full"},
}

// Signals that were really seen mean what the protocol says.
func TestSignalsAreClassified(t *testing.T) {
	for _, c := range verdicts {
		v := classify(c.signals)
		if c.state != v.State || c.code != v.Code {
			t.Errorf("%s: want %s %s, got %s %s (%s)", c.name, c.state, c.code, v.State, v.Code, v.Message)
		}
		if !strings.Contains(v.Message+"\n"+v.Hint, c.says) {
			t.Errorf("%s: neither %q nor %q says %q", c.name, v.Message, v.Hint, c.says)
		}
	}
}

// A person who reads a code also reads what is wrong and what to do.
func TestEveryCodeComesWithAMessageAndAHint(t *testing.T) {
	for _, c := range verdicts {
		if v := classify(c.signals); v.Code != "" && (v.Message == "" || v.Hint == "") {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}
