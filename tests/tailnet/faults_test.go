package main

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestFaultsAreSetAndSetBack(t *testing.T) {
	box := newFaultBox()
	err := box.set(url.Values{
		"auth_key": {"k"}, "machine": {"1"}, "map_fault": {"503"}, "dns_delay": {"1.5"}, "acme_delay": {"20ms"},
		"rules": {"nocap"}, "client_address": {"2001:db8::7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := defaultFaults()
	want.authKey, want.approval, want.mapStatus, want.filter = "k", true, 503, "nocap"
	want.dnsDelay, want.acmeDelay = 1500*time.Millisecond, 20*time.Millisecond
	want.clientAddress = netip.MustParseAddr("2001:db8::7")
	if got := box.get(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for name := range new(faults).setters() {
		if err := box.set(url.Values{name: {""}}); err != nil {
			t.Errorf("%s cannot be set back: %v", name, err)
		}
	}
	if got := box.get(); got != defaultFaults() {
		t.Errorf("after all were set back: %+v", got)
	}
}

func TestWrongFaultsChangeNothingAndAreAllTold(t *testing.T) {
	box := newFaultBox()
	err := box.set(url.Values{"auth_key": {"k"}, "rules": {"x"}, "machine": {"maybe"}, "nope": {"1"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"rules", "machine", "nope", "known are acme_429"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q is not in %q", name, err)
		}
	}
	if box.get() != defaultFaults() {
		t.Error("one of them was set all the same")
	}
}
