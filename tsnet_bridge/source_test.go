package main

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func someSources(connections int, rate float64) *sources {
	return newSources(limits{SourceConnections: connections, SourceRate: rate})
}

func ipv4(n int) netip.Addr {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], uint32(n))
	return netip.AddrFrom4(raw)
}

// An address counts for its customer: itself, a /64, or one node of the tailnet.
func TestSourceIsOneCustomer(t *testing.T) {
	for _, c := range []struct {
		want, addr string
		tailnet    bool
	}{
		{"203.0.113.7", "203.0.113.7", false},
		{"203.0.113.7", "::ffff:203.0.113.7", false},
		{"2001:db8:1:2::", "2001:db8:1:2:3:4:5:6", false},
		{"fe80::", "fe80::1%eth0", false},
		{"100.64.0.9", "100.64.0.9", true},
		{"fd7a:115c:a1e0::9", "fd7a:115c:a1e0::9", true},
	} {
		if got := sourceKey(netip.MustParseAddr(c.addr), c.tailnet); got.String() != c.want {
			t.Errorf("%s: want %s, got %s", c.addr, c.want, got)
		}
	}
	if sourceKey(netip.Addr{}, true).IsValid() {
		t.Error("no address counts for an address")
	}
}

// Connections over the limit are to be answered, and those over twice as many not.
func TestSourceHasSoManyConnections(t *testing.T) {
	table := someSources(2, 1)
	var first *source
	for i := range 4 {
		s, over, _ := table.enter(ipv4(1), noon)
		if s == nil || over != (i >= 2) || first != nil && s != first {
			t.Fatal(i, s, over)
		}
		first = s
	}
	if s, _, why := table.enter(ipv4(1), noon); s != nil || why != unreadSource {
		t.Error(s, why)
	}
	if s, over, _ := table.enter(ipv4(2), noon); s == nil || over {
		t.Error("another caller is not free")
	}
	table.leave(first, noon)
	if s, over, _ := table.enter(ipv4(1), noon); s != first || !over {
		t.Error(s, over)
	}
}

// Ten seconds' worth of requests may come at once; then it is one after the
// other, as many refusals are answered, and what is over that is not even read.
func TestSourceHasSoManyRequests(t *testing.T) {
	table, now := someSources(8, 2), noon
	s, _, _ := table.enter(ipv4(1), now)
	for i := range 20 {
		if !s.take(now) {
			t.Fatal("request", i)
		}
	}
	for i := range 20 {
		if _, _, why := table.enter(ipv4(1), now); s.take(now) || why != 0 || s.spent(now) != (i == 19) {
			t.Fatal("refusal", i, why)
		}
		table.leave(s, now)
	}
	if refused, _, why := table.enter(ipv4(1), now); refused != nil || why != unreadRate {
		t.Error(refused, why)
	}
	if got := s.retryAfter(now); got != "1" {
		t.Error(got)
	}
	now = now.Add(500 * time.Millisecond)
	if s.spent(now) || !s.take(now) || s.take(now) {
		t.Error("half a second is not one request")
	}
}

// A slow rate names a long wait.
func TestSourceSaysWhenToComeBack(t *testing.T) {
	s, _, _ := someSources(8, 0.01).enter(ipv4(1), noon)
	if !s.take(noon) || s.take(noon) {
		t.Error("the burst is not one")
	}
	if got := s.retryAfter(noon); got != "100" {
		t.Error(got)
	}
}

// A source is forgotten when it could have saved up all its requests again,
// and never while it has a connection.
func TestIdleSourcesAreForgotten(t *testing.T) {
	table, now := someSources(8, 100), noon
	kept, _, _ := table.enter(ipv4(1), now)
	for i := range 1000 {
		s, _, _ := table.enter(ipv4(100+i), now)
		table.leave(s, now)
	}
	if got := table.count(now.Add(9 * time.Second)); got != 1001 {
		t.Error(got)
	}
	if got := table.count(now.Add(10 * time.Second)); got != 1 {
		t.Error(got)
	}
	if again, _, _ := table.enter(ipv4(1), now.Add(time.Hour)); again != kept {
		t.Error("a source with a connection was forgotten")
	}
}

// A million addresses take no more than their share of memory, and the last ones stay.
func TestMillionAddressesAreBounded(t *testing.T) {
	table := someSources(8, 100)
	for i := range 1_000_000 {
		s, _, _ := table.enter(ipv4(i), noon)
		table.leave(s, noon)
	}
	if got := table.count(noon); got != maxResting || table.resting.Len() != maxResting {
		t.Error(got, table.resting.Len())
	}
	if table.known[ipv4(999_999)] == nil || table.known[ipv4(0)] != nil {
		t.Error("the wrong ones were forgotten")
	}
}

// BenchmarkSource is the cost of a connection with one request from a new address.
func BenchmarkSource(b *testing.B) {
	table, i := someSources(8, 100), 0
	b.ReportAllocs()
	for b.Loop() {
		now := time.Now()
		s, _, _ := table.enter(ipv4(i), now)
		s.take(now)
		table.leave(s, now)
		i++
	}
}
