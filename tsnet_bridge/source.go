package main

import (
	"container/list"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// burstSeconds is for how long a source may save up requests: GitHub sends
	// in bursts, from few addresses.
	burstSeconds = 10
	// maxResting bounds what is remembered of sources that have gone: whoever has
	// a million addresses gets no more than this of our memory, some 4 MB.
	maxResting = 8192
	// answeredOver is how much of what is over a limit still gets its answer, as
	// a multiple of the limit. What is over that too is closed unread, because an
	// answer costs a handshake.
	answeredOver = 2
)

// sources limits each caller on its own. A caller is an IPv4 address, a /64 of
// IPv6, which is what one customer gets, or one node of the tailnet.
type sources struct {
	most  int // connections of one at once
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	known   map[netip.Addr]*source
	resting list.List // sources without a connection, the longest first
}

// source is what is known of one caller.
type source struct {
	key      netip.Addr
	requests *rate.Limiter
	refusals *rate.Limiter // that are answered

	// Guarded by sources.mu.
	open  int
	place *list.Element // in resting
	since time.Time     // resting
}

func newSources(l limits) *sources {
	return &sources{
		most: l.SourceConnections, rate: rate.Limit(l.SourceRate),
		burst: int(max(1, math.Ceil(l.SourceRate*burstSeconds))),
		known: map[netip.Addr]*source{},
	}
}

// sourceKey is whom an address counts for.
func sourceKey(addr netip.Addr, tailnet bool) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if tailnet || !addr.Is6() {
		return addr // the whole tailnet may be in one /64
	}
	wide, _ := addr.Prefix(64) // fails only for what is no IPv6 address
	return wide.Addr()
}

// enter counts a new connection. Without a source it is to be closed unread, for
// the reason given; over: it is to be told that there are too many.
func (t *sources) enter(key netip.Addr, now time.Time) (s *source, over bool, why unread) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	s = t.known[key]
	switch {
	case s == nil:
		s = &source{key: key, requests: rate.NewLimiter(t.rate, t.burst), refusals: rate.NewLimiter(t.rate, t.burst)}
		t.known[key] = s
	case s.open >= answeredOver*t.most:
		return nil, false, unreadSource
	case s.spent(now):
		return nil, false, unreadRate
	}
	if s.place != nil {
		t.resting.Remove(s.place)
		s.place = nil
	}
	s.open++
	return s, s.open > t.most, 0
}

// leave counts the end of a connection.
func (t *sources) leave(s *source, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.open--; s.open > 0 {
		return
	}
	s.since, s.place = now, t.resting.PushBack(s)
	t.forget(now)
}

// forget drops the sources that could have saved up everything again, and those
// that are too many.
func (t *sources) forget(now time.Time) {
	for first := t.resting.Front(); first != nil; first = t.resting.Front() {
		s := first.Value.(*source)
		if now.Sub(s.since).Seconds()*float64(t.rate) < float64(t.burst) && t.resting.Len() <= maxResting {
			return
		}
		t.resting.Remove(first)
		delete(t.known, s.key)
	}
}

// count is how many sources are remembered.
func (t *sources) count(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	return len(t.known)
}

// take counts a request, or what costs as much, and reports whether it is
// within the limit.
func (s *source) take(now time.Time) bool {
	if s.requests.AllowN(now, 1) {
		return true
	}
	s.refusals.AllowN(now, 1)
	return false
}

// spent reports whether there is no answer left for this source.
func (s *source) spent(now time.Time) bool {
	return s.requests.TokensAt(now) < 1 && s.refusals.TokensAt(now) < 1
}

// retryAfter is when the next request would be within the limit, in seconds.
func (s *source) retryAfter(now time.Time) string {
	wait := (1 - s.requests.TokensAt(now)) / float64(s.requests.Limit())
	return strconv.Itoa(int(max(1, math.Ceil(wait))))
}
