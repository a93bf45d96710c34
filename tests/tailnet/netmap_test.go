package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/util/zstdframe"
)

// newView makes a tailnet of a node, an ingress node and a node that was deleted.
func newView() (v view, self, ingress, gone key.NodePublic) {
	self, ingress, gone = key.NewNode().Public(), key.NewNode().Public(), key.NewNode().Public()
	v = view{
		faults: defaultFaults(),
		nodes: registry{
			self:    {label: "host", admitted: true, approved: true},
			ingress: {label: ingressLabel, admitted: true, approved: true},
			gone:    {label: "gone", admitted: true, deleted: true},
		},
		caps:     defaultCaps(),
		relay:    ingress,
		relayIPs: []string{"100.64.0.1"},
		now:      time.Now(),
	}
	return v, self, ingress, gone
}

func netmapOf(self key.NodePublic, peers ...key.NodePublic) *tailcfg.MapResponse {
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	res := &tailcfg.MapResponse{
		ControlTime: &old,
		Node:        &tailcfg.Node{Key: self},
		DNSConfig:   &tailcfg.DNSConfig{},
		PacketFilter: []tailcfg.FilterRule{
			{SrcIPs: []string{"100.64.0.2"}},
			{SrcIPs: []string{"*"}, CapGrant: []tailcfg.CapGrant{{Caps: []tailcfg.PeerCapability{tailcfg.PeerCapabilityIngress}}}},
		},
	}
	for _, p := range peers {
		res.Peers = append(res.Peers, &tailcfg.Node{Key: p})
	}
	return res
}

func TestNodeSeesWhatFunnelNeeds(t *testing.T) {
	v, self, ingress, gone := newView()
	res := netmapOf(self, ingress, gone)
	v.apply(res)
	if res.Node.Name != "host.tail-box.ts.net." || !slices.Equal(res.DNSConfig.CertDomains, []string{"host.tail-box.ts.net"}) {
		t.Errorf("name %q, certificate domains %q", res.Node.Name, res.DNSConfig.CertDomains)
	}
	for _, c := range []tailcfg.NodeCapability{tailcfg.CapabilityHTTPS, tailcfg.NodeAttrFunnel, "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000"} {
		if !res.Node.CapMap.Contains(c) {
			t.Errorf("no capability %q", c)
		}
	}
	if !res.Node.MachineAuthorized || !res.ControlTime.Equal(v.now) {
		t.Errorf("approved: %v, time: %v", res.Node.MachineAuthorized, res.ControlTime)
	}
	if len(res.Peers) != 1 || res.Peers[0].Key != ingress {
		t.Errorf("peers are %v, want the ingress node only", res.Peers)
	}
}

func TestOnlyTheIngressNodeMayBringFunnelTraffic(t *testing.T) {
	v, self, _, _ := newView()
	res := netmapOf(self)
	v.apply(res)
	if got := res.PacketFilter[1].SrcIPs; !slices.Equal(got, []string{"100.64.0.1"}) {
		t.Errorf("the ingress capability is for %q", got)
	}
}

func TestFaultsOfTheNetmap(t *testing.T) {
	sources := func(res *tailcfg.MapResponse) (all []string) {
		for _, rule := range res.PacketFilter {
			all = append(all, rule.SrcIPs...)
		}
		return all
	}
	for filter, want := range map[string][]string{
		"nocap":    {"100.64.0.2"},
		"none":     nil,
		"noaccept": {"100.64.0.1"},
		"unsigned": {"*", "100.64.0.1"},
		"any":      {"100.64.0.2", "*"},
	} {
		v, self, _, _ := newView()
		v.faults.filter = filter
		res := netmapOf(self)
		v.apply(res)
		if got := sources(res); !slices.Equal(got, want) || res.PacketFilter == nil {
			t.Errorf("%s: sources are %q, want %q", filter, got, want)
		}
	}
	v, self, ingress, _ := newView()
	v.faults.noIngress, v.faults.noHTTPS, v.faults.domain = true, true, "other.ts.net"
	v.nodes[self].approved, v.nodes[self].expiry, v.nodes[self].caps = false, v.now, tailcfg.NodeCapMap{}
	res := netmapOf(self, ingress)
	v.apply(res)
	if len(res.Peers) != 0 || res.DNSConfig.CertDomains != nil || res.Node.Name != "host.other.ts.net." {
		t.Errorf("peers %v, certificate domains %q, name %q", res.Peers, res.DNSConfig.CertDomains, res.Node.Name)
	}
	if res.Node.MachineAuthorized || !res.Node.KeyExpiry.Equal(v.now) || res.Node.CapMap.Contains(tailcfg.NodeAttrFunnel) {
		t.Errorf("the node is %+v", res.Node)
	}
}

func TestPartOfANetmapStaysAPart(t *testing.T) {
	v, _, _, _ := newView()
	res := &tailcfg.MapResponse{}
	v.apply(res)
	if res.Peers != nil || res.PacketFilter != nil || res.ControlTime != nil {
		t.Errorf("got %+v", res)
	}
}

// frameOf packs a message as control does.
func frameOf(t *testing.T, res any, packed bool) []byte {
	t.Helper()
	raw, err := json.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	if packed {
		raw = zstdframe.AppendEncode(nil, raw)
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(raw))), raw...)
}

func TestStreamIsRewrittenFrameByFrame(t *testing.T) {
	for _, packed := range []bool{true, false} {
		stream := slices.Concat(
			frameOf(t, tailcfg.MapResponse{Domain: "a"}, packed),
			frameOf(t, tailcfg.MapResponse{KeepAlive: true}, packed),
			frameOf(t, tailcfg.MapResponse{Domain: "b"}, packed),
		)
		out := newAnswer()
		w := &mapWriter{
			ResponseWriter: out,
			ready:          func() error { return nil },
			rewrite:        func(res *tailcfg.MapResponse) { res.Domain += "!" },
		}
		for part := range slices.Chunk(stream, 7) { // frames come in any parts
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		want := slices.Concat(
			frameOf(t, tailcfg.MapResponse{Domain: "a!"}, false),
			frameOf(t, tailcfg.MapResponse{KeepAlive: true}, false),
			frameOf(t, tailcfg.MapResponse{Domain: "b!"}, false),
		)
		if got := unpack(t, out.body.Bytes()); !bytes.Equal(got, want) {
			t.Errorf("packed %v: got %q, want %q", packed, got, want)
		}
	}
}

// unpack returns the same frames without compression.
func unpack(t *testing.T, stream []byte) (plain []byte) {
	t.Helper()
	for len(stream) > 0 {
		body, rest, ok := cutFrame(stream)
		if !ok {
			t.Fatalf("half a frame is left: %q", stream)
		}
		if raw, err := zstdframe.AppendDecode(nil, body); err == nil {
			body = raw
		}
		plain = append(binary.LittleEndian.AppendUint32(plain, uint32(len(body))), body...)
		stream = rest
	}
	return plain
}
