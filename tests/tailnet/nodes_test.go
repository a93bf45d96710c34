package main

import (
	"slices"
	"testing"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// What control decides about a node that wants in.
func TestJudge(t *testing.T) {
	now := time.Now()
	member := &node{admitted: true}
	deleted := &node{admitted: true, deleted: true}
	expired := &node{admitted: true, expiry: now.Add(-time.Second)}
	open, closed, strict := faults{}, faults{authKey: "good"}, faults{authKey: "good", strictKey: true}
	for _, c := range []struct {
		name    string
		faults  faults
		node    *node
		authKey string
		want    verdict
	}{
		{"an open tailnet takes anybody", open, nil, "", admit},
		{"an open tailnet takes any key", open, nil, "any", admit},
		{"a new node with the key", closed, nil, "good", admit},
		{"a new node with a wrong key", closed, nil, "bad", rejectKey},
		{"a new node with no key", closed, nil, "", askLogin},
		{"a member needs no key", closed, member, "", admit},
		{"a member may come with a stale key", closed, member, "bad", admit},
		{"unless control is strict", strict, member, "bad", rejectKey},
		{"a strict control takes a member with no key", strict, member, "", admit},
		{"a deleted node is new", closed, deleted, "", askLogin},
		{"a deleted node with the key", closed, deleted, "good", admit},
		{"an expired key is replaced, whatever comes with it", closed, expired, "good", replaceKey},
	} {
		if got := judge(c.faults, c.node, c.authKey, now); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNodesShareNoName(t *testing.T) {
	r := registry{}
	keys := []key.NodePublic{key.NewNode().Public(), key.NewNode().Public(), key.NewNode().Public()}
	for _, k := range keys {
		r.join(faults{}, k, key.NewMachine().Public(), "host")
	}
	other := key.NewNode().Public()
	r.join(faults{taken: "hooks"}, other, key.NewMachine().Public(), "hooks")
	if want := []string{"hooks-1", "host", "host-1", "host-2"}; !slices.Equal(r.labels(), want) {
		t.Errorf("got %q, want %q", r.labels(), want)
	}
	r[keys[0]].remove()
	r.join(faults{}, keys[1], r[keys[1]].machine, "host")
	if got := r[keys[1]].label; got != "host-1" {
		t.Errorf("a member that comes again is now %q; it keeps its name, also when a better one is free", got)
	}
}

func TestNewKeyOfAMachineKeepsTheNode(t *testing.T) {
	r, machine := registry{}, key.NewMachine().Public()
	before, after := key.NewNode().Public(), key.NewNode().Public()
	r.join(faults{}, before, machine, "host")
	r[before].label = "renamed"
	r[before].expiry = time.Now().Add(-time.Minute)
	r.join(faults{approval: true}, after, machine, "host")
	got, n, err := r.find("renamed")
	if err != nil || got != after {
		t.Fatalf("the new key does not hold the name: %v", err)
	}
	if !n.approved || !n.expiry.IsZero() || r[before].alive() {
		t.Errorf("new key: %+v; old key: %+v", n, r[before])
	}
}

func TestDeletedNodeComesBackUnderAFreeName(t *testing.T) {
	r, machine := registry{}, key.NewMachine().Public()
	first, second := key.NewNode().Public(), key.NewNode().Public()
	r.join(faults{}, first, machine, "host")
	r[first].remove()
	r.join(faults{}, second, key.NewMachine().Public(), "host")
	r.join(faults{}, first, machine, "host")
	if r[second].label != "host" || r[first].label != "host-1" {
		t.Errorf("got %q and %q", r[second].label, r[first].label)
	}
}

func TestParseCaps(t *testing.T) {
	for _, text := range []string{
		"https,funnel,ports=443+8443,https://example.com/cap/x",
		"https,funnel,ports=443 8443,https://example.com/cap/x",
	} {
		got, err := parseCaps(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []tailcfg.NodeCapability{
			tailcfg.CapabilityHTTPS, tailcfg.NodeAttrFunnel, "https://example.com/cap/x",
			"https://tailscale.com/cap/funnel-ports?ports=443,8443",
		} {
			if !got.Contains(want) {
				t.Errorf("%q lacks %q: %v", text, want, got)
			}
		}
	}
	if _, err := parseCaps("htpps"); err == nil {
		t.Error("a misspelt capability was accepted")
	}
	if got, err := parseCaps(""); err != nil || len(got) != 0 {
		t.Errorf("no capabilities: %v, %v", got, err)
	}
}
