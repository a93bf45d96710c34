package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// errNoPeerAPI says that a node has not yet told control where its peerAPI is.
var errNoPeerAPI = errors.New("the node has told no peerAPI port yet")

// nodeStatus is one node, as GET /nodes shows it.
type nodeStatus struct {
	Label     string         `json:"label"`
	Key       string         `json:"key"`
	IPs       []netip.Prefix `json:"ips"`
	Admitted  bool           `json:"admitted"`
	Approved  bool           `json:"approved"`
	Deleted   bool           `json:"deleted"`
	Expiry    *time.Time     `json:"expiry"` // null: never
	Caps      []string       `json:"caps"`
	Tags      []string       `json:"tags"` // tags and ephemeral: of an auth key that the API made
	Ephemeral bool           `json:"ephemeral"`
	Ingress   bool           `json:"ingress"` // it says that Funnel is on
	Streaming int            `json:"streaming"`
}

// list returns every node that ever was, deleted ones too.
func (c *control) list() []nodeStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []nodeStatus{}
	for k, n := range c.nodes {
		status := nodeStatus{
			Label:     n.label,
			Key:       k.ShortString(),
			Admitted:  n.admitted,
			Approved:  n.approved,
			Deleted:   n.deleted,
			Caps:      []string{},
			Tags:      append([]string{}, n.grant.tags...),
			Ephemeral: n.grant.ephemeral,
			Streaming: len(n.streams),
		}
		if known := c.server.Node(k); known != nil {
			status.IPs = known.Addresses
			status.Ingress = known.Hostinfo.IngressEnabled()
		}
		if at := n.expiry; !at.IsZero() {
			status.Expiry = &at
		}
		for name := range c.capsOf(n) {
			status.Caps = append(status.Caps, string(name))
		}
		slices.Sort(status.Caps)
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b nodeStatus) int { return strings.Compare(a.Label+a.Key, b.Label+b.Key) })
	return all
}

// capsOf returns the capabilities of a node; c.mu is held.
func (c *control) capsOf(n *node) tailcfg.NodeCapMap {
	return view{caps: c.caps}.capsOf(n)
}

// peerAPI returns where the ingress reaches the living node of a name. Like the real
// edge it knows no node without the funnel attribute.
func (c *control) peerAPI(label string) (netip.AddrPort, error) {
	c.mu.Lock()
	k, n, err := c.nodes.find(label)
	funnel := err == nil && c.capsOf(n).Contains(tailcfg.NodeAttrFunnel)
	c.mu.Unlock()
	if err != nil {
		return netip.AddrPort{}, err
	}
	if !funnel {
		return netip.AddrPort{}, fmt.Errorf("node %q has no funnel attribute", label)
	}
	known := c.server.Node(k)
	for _, service := range known.Hostinfo.Services().All() {
		if service.Proto == tailcfg.PeerAPI4 {
			return netip.AddrPortFrom(known.Addresses[0].Addr(), service.Port), nil
		}
	}
	return netip.AddrPort{}, errNoPeerAPI
}

// change does something to the living node of a name and tells all nodes of it.
func (c *control) change(label string, do func(*node)) error {
	c.mu.Lock()
	_, n, err := c.nodes.find(label)
	if err == nil {
		do(n)
	}
	c.mu.Unlock()
	if err == nil {
		c.poke()
	}
	return err
}

// approve is the administrator's approval of a node, or its withdrawal.
func (c *control) approve(label string, yes bool) error {
	return c.change(label, func(n *node) { n.approved = yes })
}

// rename gives a node another name.
func (c *control) rename(label, to string) error {
	if to == "" || strings.Contains(to, ".") {
		return fmt.Errorf("%q is no node name; expected one DNS label", to)
	}
	return c.change(label, func(n *node) { n.label = to })
}

// expire ends the key of a node at a time; a zero time takes the end away.
func (c *control) expire(label string, at time.Time) error {
	return c.change(label, func(n *node) { n.expiry = at })
}

// remove deletes a node from the tailnet. Real control ends its poll as well.
func (c *control) remove(label string) error {
	return c.change(label, func(n *node) {
		n.remove()
		n.hangUp()
	})
}

// hangUp ends the polls of a node.
func (c *control) hangUp(label string) error { return c.change(label, (*node).hangUp) }

// setCaps sets the capabilities of one node, or with no name of all that have none of
// their own.
func (c *control) setCaps(label string, caps tailcfg.NodeCapMap) error {
	if label != "" {
		return c.change(label, func(n *node) { n.caps = caps })
	}
	c.mu.Lock()
	c.caps = caps
	c.mu.Unlock()
	c.poke()
	return nil
}

// reset deletes every node but our own and forgets what was set.
func (c *control) reset() {
	c.mu.Lock()
	c.caps = defaultCaps()
	c.logins = map[string]*login{}
	c.api.reset()
	for k, n := range c.nodes {
		if k != c.relay && n.label != peerLabel {
			n.remove()
			n.hangUp()
		}
	}
	c.mu.Unlock()
	c.poke()
}

// labelOf cuts the tailnet's domain off a public name.
func (c *control) labelOf(name string) (string, error) {
	label, ok := strings.CutSuffix(strings.ToLower(name), "."+c.faults.get().domain)
	if !ok || label == "" {
		return "", fmt.Errorf("%q is no name of this tailnet", name)
	}
	return label, nil
}

// keyOf returns the key of the living node of a name.
func (c *control) keyOf(label string) (key.NodePublic, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, _, err := c.nodes.find(label)
	return k, err
}
