package main

import (
	"net/netip"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFaultsAreSetAndSetBack(t *testing.T) {
	box := newFaultBox()
	err := box.set(url.Values{
		"auth_key": {"k"}, "machine": {"1"}, "map_fault": {"503"}, "dns_delay": {"1.5"}, "acme_delay": {"20ms"},
		"rules": {"nocap"}, "client_address": {"2001:db8::7"}, "relay": {"stall"}, "clock_skew": {"-60"},
		"a_answer": {"100.64.0.9,fd7a:115c:a1e0::9"}, "a_fail": {"silent"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := defaultFaults()
	want.authKey, want.approval, want.mapStatus, want.filter = "k", true, 503, "nocap"
	want.dnsDelay, want.acmeDelay = 1500*time.Millisecond, 20*time.Millisecond
	want.clientAddress, want.relay, want.clockSkew = netip.MustParseAddr("2001:db8::7"), relayStall, -time.Minute
	want.addresses = []netip.Addr{netip.MustParseAddr("100.64.0.9"), netip.MustParseAddr("fd7a:115c:a1e0::9")}
	want.lookup = lookupSilent
	if got := box.get(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for name := range new(faults).setters() {
		if err := box.set(url.Values{name: {""}}); err != nil {
			t.Errorf("%s cannot be set back: %v", name, err)
		}
	}
	if got := box.get(); !reflect.DeepEqual(got, defaultFaults()) {
		t.Errorf("after all were set back: %+v", got)
	}
}

func TestWrongFaultsChangeNothingAndAreAllTold(t *testing.T) {
	box := newFaultBox()
	err := box.set(url.Values{"auth_key": {"k"}, "rules": {"x"}, "machine": {"maybe"}, "nope": {"1"}, "a_answer": {"here"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"rules", "machine", "nope", "a_answer", "known are a_answer"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not in %q", name, err)
		}
	}
	if !reflect.DeepEqual(box.get(), defaultFaults()) {
		t.Error("one of them was set all the same")
	}
}

func TestEveryFaultIsDocumented(t *testing.T) {
	for _, file := range []string{"api.go", "../support/tailnet.py"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range new(faults).setters() {
			if !strings.Contains(string(text), name) {
				t.Errorf("%s does not tell of %s", file, name)
			}
		}
	}
}
