package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// faults are the ways in which the tailnet misbehaves, and what else a test may
// set. The names of POST /set are in setters.
type faults struct {
	// Who may join.
	authKey   string // a new node needs this key, or a person who logs in; empty: all may join
	keyError  string // what a node with a wrong key is told
	strictKey bool   // a wrong key is refused even from a node that is known
	approval  bool   // a new node waits for an administrator
	taken     string // a name that somebody else's node has already

	// The API for credentials.
	oauthSecret string // the client secret that it knows; empty: any
	wifClient   string // the client ID of a workload identity; empty: any
	wifToken    string // the workload's own token; empty: any
	apiStatus   int    // it answers with this HTTP status only; 0: it does not
	apiDown     bool   // it hangs up without an answer

	// Control answers with an HTTP status instead; 0: it does not.
	mapStatus      int
	deletedStatus  int // to a node that was deleted
	registerStatus int
	retryAfter     string // beside registerStatus

	// All of control, but for our own nodes.
	hang      bool          // connections are accepted, and nothing is answered
	clockSkew time.Duration // its clock is ahead by so much

	// The records that nodes set for the CA.
	dnsError   string // control refuses them with this text
	dnsDelay   time.Duration
	dnsSwallow bool // control says yes and publishes nothing

	// What is in the netmap.
	domain    string // MagicDNS domain
	noHTTPS   bool   // no certificate domains
	noIngress bool   // without the ingress node
	filter    string // see filterFaults

	// The CA.
	acmeDelay      time.Duration // before it takes an order
	acmeRetryAfter string        // 429 with this Retry-After for each order

	// Outside.
	clientAddress netip.Addr   // where the public seems to come from
	relay         string       // see relayFaults
	addresses     []netip.Addr // of every name in the public DNS; none: 127.0.0.1
	lookup        string       // see lookupFaults
}

// filterFaults are the packet filters that a control server could send by mistake.
var filterFaults = []string{
	"",
	"nocap",    // without the ingress capability
	"none",     // with no rule
	"noaccept", // with the capability only
	"unsigned", // with an unsigned node as a source, which a client refuses as a whole
	"any",      // the ingress capability for every node
}

// relayFaults are the ways in which the public port fails.
const (
	relayDown  = "down"  // it refuses connections
	relayStall = "stall" // it accepts and never answers
	relayReset = "reset" // it accepts and resets
	relayCut   = "cut"   // it brings the hello to the node, and then cuts both sides
)

var relayFaults = []string{"", relayDown, relayStall, relayReset, relayCut}

// lookupFaults are the ways in which the public DNS fails to tell an address. Records for
// the CA stay right.
const (
	lookupNoName = "nxdomain"
	lookupFails  = "servfail"
	lookupSilent = "silent" // there is no answer
)

var lookupFaults = []string{"", lookupNoName, lookupFails, lookupSilent}

func defaultFaults() faults {
	return faults{
		keyError:      "invalid key: API key does not exist",
		deletedStatus: http.StatusNotFound,
		domain:        "tail-box.ts.net",
		clientAddress: netip.MustParseAddr("203.0.113.7"), // RFC 5737: for documents
	}
}

// setters says how the text of each name becomes a value. An empty text is the zero
// value, or the default where a zero makes no sense.
func (f *faults) setters() map[string]func(string) error {
	start := defaultFaults()
	return map[string]func(string) error{
		"auth_key":       setText(&f.authKey, ""),
		"key_err":        setText(&f.keyError, start.keyError),
		"strict_key":     setFlag(&f.strictKey),
		"machine":        setFlag(&f.approval),
		"taken":          setText(&f.taken, ""),
		"oauth_secret":   setText(&f.oauthSecret, ""),
		"wif_client":     setText(&f.wifClient, ""),
		"wif_token":      setText(&f.wifToken, ""),
		"api_status":     setNumber(&f.apiStatus, 0),
		"api_down":       setFlag(&f.apiDown),
		"map_fault":      setNumber(&f.mapStatus, 0),
		"del_fault":      setNumber(&f.deletedStatus, start.deletedStatus),
		"reg_fault":      setNumber(&f.registerStatus, 0),
		"reg_after":      setText(&f.retryAfter, ""),
		"control_hang":   setFlag(&f.hang),
		"clock_skew":     setDuration(&f.clockSkew),
		"dns_err":        setText(&f.dnsError, ""),
		"dns_delay":      setDuration(&f.dnsDelay),
		"dns_swallow":    setFlag(&f.dnsSwallow),
		"mdns":           setText(&f.domain, start.domain),
		"no_https":       setFlag(&f.noHTTPS),
		"no_relay":       setFlag(&f.noIngress),
		"rules":          setOneOf(&f.filter, filterFaults),
		"acme_delay":     setDuration(&f.acmeDelay),
		"acme_429":       setText(&f.acmeRetryAfter, ""),
		"client_address": setAddress(&f.clientAddress, start.clientAddress),
		"relay":          setOneOf(&f.relay, relayFaults),
		"a_answer":       setAddresses(&f.addresses),
		"a_fail":         setOneOf(&f.lookup, lookupFaults),
	}
}

// with returns the faults changed as the form says, or every problem of the form.
func (f faults) with(form url.Values) (faults, error) {
	setters := f.setters()
	var errs []error
	for name, values := range form {
		set, ok := setters[name]
		if !ok {
			known := slices.Sorted(maps.Keys(setters))
			errs = append(errs, fmt.Errorf("unknown setting %q; known are %s", name, strings.Join(known, ", ")))
			continue
		}
		if err := set(values[len(values)-1]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	// The setters write to f, which is a copy of the caller's.
	return f, errors.Join(errs...)
}

// faultBox holds the faults of now.
type faultBox struct {
	mu      sync.Mutex
	now     faults
	changed chan struct{} // closed at the next change
}

func newFaultBox() *faultBox {
	return &faultBox{now: defaultFaults(), changed: make(chan struct{})}
}

func (b *faultBox) get() faults {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// set changes all that the form names, or nothing when one of it is wrong.
func (b *faultBox) set(form url.Values) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := b.now.with(form)
	if err == nil {
		b.change(next)
	}
	return err
}

func (b *faultBox) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change(defaultFaults())
}

// change wakes those who wait in await; b.mu is held.
func (b *faultBox) change(next faults) {
	b.now = next
	close(b.changed)
	b.changed = make(chan struct{})
}

// await waits until the faults are as ok wants them, and reports whether that came before
// the end of ctx.
func (b *faultBox) await(ctx context.Context, ok func(faults) bool) bool {
	for {
		b.mu.Lock()
		now, changed := b.now, b.changed
		b.mu.Unlock()
		if ok(now) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

func setText(dst *string, empty string) func(string) error {
	return func(text string) error {
		*dst = text
		if text == "" {
			*dst = empty
		}
		return nil
	}
}

func setOneOf(dst *string, allowed []string) func(string) error {
	return func(text string) error {
		if !slices.Contains(allowed, text) {
			return fmt.Errorf("%q is none of %q", text, allowed)
		}
		*dst = text
		return nil
	}
}

func setFlag(dst *bool) func(string) error {
	return func(text string) (err error) {
		*dst, err = parseFlag(text)
		return err
	}
}

func setNumber(dst *int, empty int) func(string) error {
	return func(text string) (err error) {
		if *dst = empty; text != "" {
			*dst, err = strconv.Atoi(text)
		}
		return err
	}
}

func setDuration(dst *time.Duration) func(string) error {
	return func(text string) (err error) {
		*dst, err = parseDuration(text)
		return err
	}
}

func setAddress(dst *netip.Addr, empty netip.Addr) func(string) error {
	return func(text string) (err error) {
		if *dst = empty; text != "" {
			*dst, err = netip.ParseAddr(text)
		}
		return err
	}
}

// setAddresses reads addresses with commas between them; empty is none.
func setAddresses(dst *[]netip.Addr) func(string) error {
	return func(text string) error {
		var all []netip.Addr
		for word := range strings.SplitSeq(text, ",") {
			if word == "" {
				continue
			}
			addr, err := netip.ParseAddr(word)
			if err != nil {
				return err
			}
			all = append(all, addr)
		}
		*dst = all
		return nil
	}
}

// parseFlag reads 1, 0, true, false; empty is false.
func parseFlag(text string) (bool, error) {
	if text == "" {
		return false, nil
	}
	return strconv.ParseBool(text)
}

// parseDuration reads "1.5s" and, in seconds, "1.5"; empty is 0.
func parseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Duration(s * float64(time.Second)), nil
	}
	return time.ParseDuration(text)
}

// pause waits and reports whether it came to its end before ctx did.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
