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
	fresh, used := &authKey{}, &authKey{used: true}
	for _, c := range []struct {
		name    string
		faults  faults
		node    *node
		authKey string
		made    *authKey
		want    verdict
	}{
		{"an open tailnet takes anybody", open, nil, "", nil, admit},
		{"an open tailnet takes any key", open, nil, "any", nil, admit},
		{"a new node with the key", closed, nil, "good", nil, admit},
		{"a new node with a wrong key", closed, nil, "bad", nil, rejectKey},
		{"a new node with no key", closed, nil, "", nil, askLogin},
		{"a member needs no key", closed, member, "", nil, admit},
		{"a member may come with a stale key", closed, member, "bad", nil, admit},
		{"unless control is strict", strict, member, "bad", nil, rejectKey},
		{"a strict control takes a member with no key", strict, member, "", nil, admit},
		{"a deleted node is new", closed, deleted, "", nil, askLogin},
		{"a deleted node with the key", closed, deleted, "good", nil, admit},
		{"an expired key is replaced, whatever comes with it", closed, expired, "good", nil, replaceKey},
		{"a key of the API lets a new node in", closed, nil, "made", fresh, admit},
		{"for a strict control too", strict, nil, "made", fresh, admit},
		{"but only one node", closed, nil, "made", used, rejectKey},
		{"in an open tailnet too", open, nil, "made", used, rejectKey},
		{"which it leaves in", closed, member, "made", used, admit},
		{"unless control is strict with the key that is used up", strict, member, "made", used, rejectKey},
	} {
		if got := judge(c.faults, c.node, c.authKey, c.made, now); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNodesShareNoName(t *testing.T) {
	r := registry{}
	keys := []key.NodePublic{key.NewNode().Public(), key.NewNode().Public(), key.NewNode().Public()}
	for _, k := range keys {
		r.join(faults{}, k, key.NewMachine().Public(), "host", nil)
	}
	other := key.NewNode().Public()
	r.join(faults{taken: "hooks"}, other, key.NewMachine().Public(), "hooks", nil)
	if want := []string{"hooks-1", "host", "host-1", "host-2"}; !slices.Equal(r.labels(), want) {
		t.Errorf("got %q, want %q", r.labels(), want)
	}
	r[keys[0]].remove()
	r.join(faults{}, keys[1], r[keys[1]].machine, "host", nil)
	if got := r[keys[1]].label; got != "host-1" {
		t.Errorf("a member that comes again is now %q; it keeps its name, also when a better one is free", got)
	}
}

func TestNewKeyOfAMachineKeepsTheNode(t *testing.T) {
	r, machine := registry{}, key.NewMachine().Public()
	before, after := key.NewNode().Public(), key.NewNode().Public()
	r.join(faults{}, before, machine, "host", nil)
	r[before].label = "renamed"
	r[before].expiry = time.Now().Add(-time.Minute)
	r.join(faults{approval: true}, after, machine, "host", nil)
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
	r.join(faults{}, first, machine, "host", nil)
	r[first].remove()
	r.join(faults{}, second, key.NewMachine().Public(), "host", nil)
	r.join(faults{}, first, machine, "host", nil)
	if r[second].label != "host" || r[first].label != "host-1" {
		t.Errorf("got %q and %q", r[second].label, r[first].label)
	}
}

func TestKeyOfTheAPIGivesWhatItSays(t *testing.T) {
	r, machine := registry{}, key.NewMachine().Public()
	waiting, approved, after := key.NewNode().Public(), key.NewNode().Public(), key.NewNode().Public()
	f := faults{approval: true}
	r.join(f, waiting, key.NewMachine().Public(), "host", &grant{ephemeral: true})
	if n := r[waiting]; n.approved || !n.grant.ephemeral {
		t.Errorf("not preauthorized: %+v", n)
	}
	r.join(f, approved, machine, "host", &grant{preauthorized: true, tags: []string{"tag:a"}})
	r.join(f, after, machine, "host", nil)
	if n := r[after]; !n.approved || !slices.Equal(n.grant.tags, []string{"tag:a"}) {
		t.Errorf("a new key of the same machine: %+v", n)
	}
	r[after].remove()
	r.join(f, after, machine, "host", nil)
	if n := r[after]; n.approved || n.grant.tags != nil {
		t.Errorf("back after its deletion, as a new node: %+v", n)
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
