package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// The fault API. Every answer is JSON; what is wrong is {"error": "…"} with 400, or 404
// for a node that is not there. Parameters are in the query or in a form.
//
//	GET  /nodes                      every node that ever was
//	GET  /logs?clear=1               {"acme": […], "api": […], "control": […], "relay": […]}
//	POST /set?NAME=VALUE&…           faults, see below; an empty value resets one
//	POST /reset                      as it was at the start: no faults, no nodes but ours
//	POST /login?url=                 the person who opens the login URL
//	POST /approve?host=&yes=1        the administrator; yes=0 withdraws the approval
//	POST /caps?host=&caps=https,funnel,ports=443+8443    no host: every node without its own
//	POST /delete?host=               the node is gone
//	POST /expire?host=&in=4s         the node key ends then; no in: never
//	POST /rename?host=&to=           another name
//	POST /break?host=                its map poll is cut; with control_hang it is offline then
//	POST /control?up=0               the control server is away
//	POST /acme?up=0                  the CA is away
//	POST /validity?s=60              lifetime of the certificates to come
//	POST /peer?host=&port=|papi=1&target=&tls=&as=laptop&method=&path=&headers={"name": "value"}
//	                                 what a node of the tailnet gets from another; see peer.go
//
// The faults of /set; faults.go says what each does:
//
//	who may join         auth_key key_err strict_key machine taken
//	API for credentials  oauth_secret wif_client wif_token api_status api_down
//	control              map_fault del_fault reg_fault reg_after control_hang clock_skew
//	records for the CA   dns_err dns_delay dns_swallow
//	netmap               mdns no_https no_relay rules=nocap|none|noaccept|unsigned|any
//	CA                   acme_delay acme_429 (the Retry-After: seconds or an HTTP date)
//	outside              client_address relay=down|stall|reset|cut
//	public DNS           a_answer=ADDRESS,… a_fail=nxdomain|servfail|silent (A and AAAA only)
func startAPI(tn *tailnet) (*switchable, error) {
	api, err := listenSwitchable(nil)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for pattern, action := range tn.actions() {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { respond(w, r, action) })
	}
	api.serve(mux)
	return api, nil
}

// action does one request of the API and returns what to answer.
type action func(r *http.Request, form url.Values) (any, error)

func (tn *tailnet) actions() map[string]action {
	c := tn.control
	return map[string]action{
		"GET /nodes":   func(*http.Request, url.Values) (any, error) { return c.list(), nil },
		"GET /logs":    tn.readLogs,
		"POST /set":    tn.setFaults,
		"POST /reset":  func(*http.Request, url.Values) (any, error) { return "ok", tn.reset() },
		"POST /login":  simple(func(f url.Values) error { return c.completeLogin(f.Get("url")) }),
		"POST /delete": simple(func(f url.Values) error { return c.remove(f.Get("host")) }),
		"POST /rename": simple(func(f url.Values) error { return c.rename(f.Get("host"), f.Get("to")) }),
		"POST /break":  simple(func(f url.Values) error { return c.hangUp(f.Get("host")) }),
		"POST /approve": simple(func(f url.Values) error {
			yes, err := parseFlag(orElse(f.Get("yes"), "1"))
			if err != nil {
				return err
			}
			return c.approve(f.Get("host"), yes)
		}),
		"POST /caps": simple(func(f url.Values) error {
			caps, err := parseCaps(f.Get("caps"))
			if err != nil {
				return err
			}
			return c.setCaps(f.Get("host"), caps)
		}),
		"POST /expire":   simple(tn.expire),
		"POST /control":  simple(func(f url.Values) error { return upOrDown(c.http, f) }),
		"POST /acme":     simple(func(f url.Values) error { return upOrDown(tn.ca.http, f) }),
		"POST /validity": simple(tn.setValidity),
		"POST /peer": func(r *http.Request, f url.Values) (any, error) {
			a, err := parseAttempt(f)
			if err != nil {
				return nil, err
			}
			return tn.peer.try(r.Context(), a)
		},
	}
}

// simple is an action that answers "ok".
func simple(do func(url.Values) error) action {
	return func(_ *http.Request, form url.Values) (any, error) { return "ok", do(form) }
}

// respond runs an action.
func respond(w http.ResponseWriter, r *http.Request, do action) {
	if err := r.ParseForm(); err != nil {
		fail(w, err)
		return
	}
	out, err := do(r, r.Form)
	if err != nil {
		fail(w, err)
		return
	}
	writeJSON(w, out)
}

func fail(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	status := http.StatusBadRequest
	if errors.Is(err, errNoNode) {
		status = http.StatusNotFound
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()}) // the caller went away
}

func (tn *tailnet) setFaults(_ *http.Request, form url.Values) (any, error) {
	if err := tn.faults.set(form); err != nil {
		return nil, err
	}
	tn.control.poke()
	return "ok", tn.relay.follow()
}

func (tn *tailnet) readLogs(_ *http.Request, form url.Values) (any, error) {
	clear, err := parseFlag(form.Get("clear"))
	if err != nil {
		return nil, err
	}
	logs := tn.journal.read()
	if clear {
		tn.journal.clear()
	}
	return logs, nil
}

func (tn *tailnet) expire(form url.Values) error {
	var at time.Time
	if form.Get("in") != "" {
		in, err := parseDuration(form.Get("in"))
		if err != nil {
			return err
		}
		at = time.Now().Add(in)
	}
	return tn.control.expire(form.Get("host"), at)
}

func (tn *tailnet) setValidity(form url.Values) error {
	d, err := parseDuration(form.Get("s"))
	if err != nil {
		return err
	}
	if d < time.Second {
		return fmt.Errorf("a certificate lives for a second at least, not %v", d)
	}
	tn.ca.setValidity(d)
	return nil
}

func upOrDown(s *switchable, form url.Values) error {
	up, err := parseFlag(form.Get("up"))
	if err != nil {
		return err
	}
	if up {
		return s.up()
	}
	return s.down()
}

func orElse(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
