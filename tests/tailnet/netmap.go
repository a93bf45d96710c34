package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/util/zstdframe"
)

// view is what control lays over the netmaps that testcontrol makes: names, deletion,
// approval, expiry, capabilities, and who may bring Funnel traffic.
type view struct {
	faults   faults
	nodes    registry
	caps     tailcfg.NodeCapMap // of nodes that have none of their own
	relay    key.NodePublic
	relayIPs []string
	now      time.Time
}

// apply changes the netmap of one node into what real control would send.
func (v view) apply(res *tailcfg.MapResponse) {
	if res.ControlTime != nil {
		// testcontrol says 2020, and the client then thinks that no key ever expires.
		res.ControlTime = &v.now
	}
	if res.Node != nil {
		v.applySelf(res.Node)
		if res.DNSConfig != nil {
			res.DNSConfig.CertDomains = v.certDomains(res.Node)
		}
	}
	if res.Peers != nil {
		v.nameUser(res.Peers, res.UserProfiles)
		res.Peers, res.PeersRemoved = v.peers(res.Peers)
	}
	res.PacketFilter = v.filter(res.PacketFilter)
}

func (v view) applySelf(n *tailcfg.Node) {
	v.applyNode(n)
	known := v.nodes[n.Key]
	if known == nil {
		return
	}
	n.MachineAuthorized = known.approved
	//lint:ignore SA1019 testcontrol still fills the older form of the same, and clients still read it
	n.Capabilities = nil
	n.CapMap = tailcfg.NodeCapMap{tailcfg.NodeAttrDisableUPnP: nil}
	for c := range v.capsOf(known) {
		n.CapMap[c] = nil
	}
}

func (v view) applyNode(n *tailcfg.Node) {
	if known := v.nodes[n.Key]; known != nil {
		n.Name = known.label + "." + v.faults.domain + "."
		n.Tags = known.grant.tags
		n.KeyExpiry = known.expiry
	}
}

func (v view) capsOf(n *node) tailcfg.NodeCapMap {
	if n.caps != nil {
		return n.caps
	}
	return v.caps
}

func (v view) certDomains(self *tailcfg.Node) []string {
	if v.faults.noHTTPS {
		return nil
	}
	return []string{strings.TrimSuffix(self.Name, ".")}
}

// peers returns those whom the node may see. A list without one means "unchanged", so
// that the last of them must be taken away by name.
func (v view) peers(all []*tailcfg.Node) (kept []*tailcfg.Node, removed []tailcfg.NodeID) {
	for _, p := range all {
		if !v.nodes[p.Key].alive() || v.faults.noIngress && p.Key == v.relay {
			removed = append(removed, p.ID)
			continue
		}
		v.applyNode(p)
		kept = append(kept, p)
	}
	if len(kept) > 0 {
		return kept, nil
	}
	return nil, removed
}

// nameUser gives the ordinary node of the kit a person: WhoIs of its connections tells that
// one. All other nodes have users that testcontrol makes up.
func (v view) nameUser(peers []*tailcfg.Node, profiles []tailcfg.UserProfile) {
	for _, p := range peers {
		if known := v.nodes[p.Key]; known == nil || known.label != peerLabel {
			continue
		}
		for i := range profiles {
			if profiles[i].ID == p.User {
				profiles[i].LoginName, profiles[i].DisplayName = peerLogin, peerDisplayName
			}
		}
	}
}

// filter gives the ingress capability to the ingress node only, as a real tailnet does;
// testcontrol gives it to all. Then it does what the fault says.
func (v view) filter(rules []tailcfg.FilterRule) []tailcfg.FilterRule {
	var kept []tailcfg.FilterRule
	if rules == nil {
		return nil // unchanged since the last netmap
	}
	for _, rule := range rules {
		grants := len(rule.CapGrant) > 0
		switch {
		case v.faults.filter == "none", v.faults.filter == "nocap" && grants, v.faults.filter == "noaccept" && !grants:
			continue
		case grants && v.faults.filter != "any":
			rule.SrcIPs = v.relayIPs
		case !grants && v.faults.filter == "unsigned":
			rule.SrcIPs = []string{"*"}
		}
		kept = append(kept, rule)
	}
	if kept == nil {
		return []tailcfg.FilterRule{} // nil would mean "unchanged"
	}
	return kept
}

// mapWriter rewrites the stream of netmaps on its way to a node. A frame is
//
//	4 bytes, little endian: size | zstd or plain JSON of a tailcfg.MapResponse
type mapWriter struct {
	http.ResponseWriter
	ready   func() error // waits until a frame may be sent
	rewrite func(*tailcfg.MapResponse)
	pending []byte
}

// Flush passes on what is complete.
func (m *mapWriter) Flush() { _ = http.NewResponseController(m.ResponseWriter).Flush() }

// Write takes any part of the stream.
func (m *mapWriter) Write(p []byte) (int, error) {
	m.pending = append(m.pending, p...)
	for {
		frame, rest, ok := cutFrame(m.pending)
		if !ok {
			return len(p), nil
		}
		if err := m.ready(); err != nil {
			return 0, err
		}
		out, err := rewriteFrame(frame, m.rewrite)
		if err != nil {
			return 0, err
		}
		if _, err := m.ResponseWriter.Write(out); err != nil {
			return 0, err
		}
		m.pending = append([]byte(nil), rest...)
	}
}

// cutFrame takes the body of the first frame off buf when all of it is there.
func cutFrame(buf []byte) (body, rest []byte, ok bool) {
	if len(buf) < 4 {
		return nil, buf, false
	}
	end := 4 + int(binary.LittleEndian.Uint32(buf))
	if len(buf) < end {
		return nil, buf, false
	}
	return buf[4:end], buf[end:], true
}

// rewriteFrame returns the whole frame for a changed body.
func rewriteFrame(body []byte, rewrite func(*tailcfg.MapResponse)) ([]byte, error) {
	raw, err := zstdframe.AppendDecode(nil, body)
	packed := err == nil
	if !packed {
		raw = body
	}
	var res tailcfg.MapResponse
	if err := json.Unmarshal(raw, &res); err != nil {
		return nil, fmt.Errorf("read a netmap: %w", err)
	}
	if !res.KeepAlive {
		rewrite(&res)
		if raw, err = json.Marshal(&res); err != nil {
			return nil, fmt.Errorf("write a netmap: %w", err)
		}
	}
	if packed {
		raw = zstdframe.AppendEncode(nil, raw, zstdframe.FastestCompression)
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(raw))), raw...), nil
}
