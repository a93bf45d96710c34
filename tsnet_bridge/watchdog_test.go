package main

import (
	"errors"
	"testing"
	"time"
)

// The ladder is climbed rung by rung, and its top is a new process that is kept.
func TestLadderIsClimbed(t *testing.T) {
	for _, c := range []struct {
		name     string
		rung     remedy
		curable  int
		repaired bool
		want     remedy
	}{
		{"two failures are nothing", remedyNone, 2, false, remedyNone},
		{"three: listen again", remedyNone, 3, false, remedyListenAgain},
		{"a new process listens again too", remedyNone, 3, true, remedyListenAgain},
		{"it did not help yet", remedyListenAgain, 2, false, remedyNone},
		{"it did not help: a new process", remedyListenAgain, 3, false, remedyReplaceChild},
		{"a new process that did not help either is kept", remedyListenAgain, 30, true, remedyNone},
		{"the top", remedyReplaceChild, 30, false, remedyNone},
	} {
		if got := nextRemedy(c.rung, c.curable, c.repaired); c.want != got {
			t.Errorf("%s: want %v, got %v", c.name, c.want, got)
		}
	}
}

// Only what this node may mend counts for the ladder: not DNS, and nothing while control is away.
func TestOnlyCurableFailuresCount(t *testing.T) {
	n, _ := bareNode(t, nil)
	failed := func(fault probeFault, online bool) int {
		n.note(look{at: time.Now(), fault: fault, err: errors.New("no")}, online)
		return n.dog.curable
	}
	for i, c := range []struct {
		fault  probeFault
		online bool
		want   int
	}{
		{faultTLS, true, 1}, {faultConnect, true, 2}, {faultDNS, true, 0}, {faultAnswer, true, 1},
		{faultTailnet, true, 0}, {faultTLS, true, 1}, {faultTLS, false, 0}, {faultTLS, true, 1},
	} {
		if got := failed(c.fault, c.online); c.want != got {
			t.Errorf("look %d: want %d, got %d", i, c.want, got)
		}
	}
	if !n.dog.down() {
		t.Error("they make the path down all the same")
	}
}

// Three looks in a row make the path down, and one answer makes it good, whatever was tried before.
func TestLooksAreCounted(t *testing.T) {
	n, out := bareNode(t, nil)
	n.dog.repaired = true
	failed := look{at: time.Now(), fault: faultTLS, err: errors.New("EOF")}
	for i := range 5 {
		n.note(failed, true)
		if want := i >= 2; want != n.dog.down() {
			t.Errorf("after %d: down is %v", i+1, n.dog.down())
		}
	}
	n.dog.rung = remedyListenAgain
	n.note(look{at: time.Now()}, true)
	if d := &n.dog; d.down() || d.curable != 0 || d.failures != 0 || !d.answered || d.repaired || d.rung != remedyNone {
		t.Errorf("%+v", d.last)
	}
	if count(out.String(), "probe.failed") != 1 || count(out.String(), "probe.answered") != 1 {
		t.Error("each change is said once:", out)
	}
}
