package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// Labels of the nodes that are ours.
const (
	ingressLabel = "ingress" // brings Funnel traffic, like Tailscale's own ingress nodes
	peerLabel    = "laptop"  // an ordinary member of the tailnet
)

// The person whose node the ordinary member is.
const (
	peerLogin       = "ada@example.com"
	peerDisplayName = "Ada Lovelace"
)

// node is what control knows of one node key, beside what testcontrol keeps. Real
// control decides all of it; testcontrol decides none.
type node struct {
	label    string
	grant    grant // of the auth key that let it in, when the API made that
	machine  key.MachinePublic
	admitted bool // showed a key, or a person logged in
	approved bool
	deleted  bool
	expiry   time.Time          // zero: never
	caps     tailcfg.NodeCapMap // nil: those of all nodes
	streams  map[int]context.CancelFunc
}

// alive reports whether the node is a member of the tailnet.
func (n *node) alive() bool { return n != nil && n.admitted && !n.deleted }

// expired reports whether the node key has ended. It cannot be renewed, only replaced.
func (n *node) expired(now time.Time) bool { return !n.expiry.IsZero() && !n.expiry.After(now) }

// verdict is what control decides about a register request.
type verdict int

const (
	admit      verdict = iota
	rejectKey          // the auth key is wrong
	replaceKey         // the node key has expired
	askLogin           // a person must open a URL
)

// judge decides about a register request that is not the end of a login. n is nil for
// a node key that was never seen, made for an auth key that the API did not make.
func judge(f faults, n *node, authKey string, made *authKey, now time.Time) verdict {
	fresh := made != nil && !made.used
	wrong := authKey != "" && authKey != f.authKey && !fresh
	switch {
	case n != nil && n.expired(now):
		return replaceKey
	case f.strictKey && wrong:
		return rejectKey
	case fresh || n.alive():
		return admit
	case made != nil:
		return rejectKey // another node has used it
	case f.authKey == "":
		return admit
	case wrong:
		return rejectKey
	case authKey == "":
		return askLogin
	default:
		return admit
	}
}

// freeLabel returns host, or host-1, host-2 … when the name is taken, as real control
// does.
func freeLabel(host string, taken func(string) bool) string {
	label := host
	for i := 1; taken(label); i++ {
		label = fmt.Sprintf("%s-%d", host, i)
	}
	return label
}

// parseCaps reads "https,funnel,ports=443+8443": short names for what Funnel needs,
// any other capability by its full name. A form decodes + as a space, so both part
// the ports.
func parseCaps(text string) (tailcfg.NodeCapMap, error) {
	caps := tailcfg.NodeCapMap{}
	for _, name := range strings.Split(text, ",") {
		ports, isPorts := strings.CutPrefix(name, "ports=")
		switch {
		case name == "":
		case name == "https":
			caps[tailcfg.CapabilityHTTPS] = nil
		case name == "funnel":
			caps[tailcfg.NodeAttrFunnel] = nil
		case isPorts:
			list := strings.NewReplacer("+", ",", " ", ",").Replace(ports)
			caps[tailcfg.CapabilityFunnelPorts+tailcfg.NodeCapability("?ports="+list)] = nil
		case !strings.Contains(name, "/"):
			return nil, fmt.Errorf("unknown capability %q; known are https, funnel, ports=443+8443, or a full name with a /", name)
		default:
			caps[tailcfg.NodeCapability(name)] = nil
		}
	}
	return caps, nil
}

// defaultCaps let every node use Funnel on all ports that it has.
func defaultCaps() tailcfg.NodeCapMap {
	caps, err := parseCaps("https,funnel,ports=443+8443+10000")
	if err != nil {
		panic(err) // a constant
	}
	return caps
}

// errNoNode is the answer to a name that no living node has.
var errNoNode = errors.New("no such node")

// registry is all nodes by their key. Its owner guards it.
type registry map[key.NodePublic]*node

// find returns the living node of a name.
func (r registry) find(label string) (key.NodePublic, *node, error) {
	for k, n := range r {
		if n.label == label && n.alive() {
			return k, n, nil
		}
	}
	return key.NodePublic{}, nil, fmt.Errorf("%w: %q; there are %q", errNoNode, label, r.labels())
}

// labels returns the names of the living nodes.
func (r registry) labels() []string {
	names := map[string]bool{}
	for _, n := range r {
		if n.alive() {
			names[n.label] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// join makes a node a member. A new key of a machine that is known takes the place of
// the old one, its name included; all others get the name they ask for when it is free.
// given is what an auth key of the API gives, or nil.
func (r registry) join(f faults, k key.NodePublic, machine key.MachinePublic, host string, given *grant) {
	n := r[k]
	if n == nil {
		n = &node{}
		r[k] = n
	}
	wasAlive := n.alive()
	n.machine, n.admitted, n.deleted = machine, true, false
	for old, o := range r {
		if old != k && o.machine == machine && o.alive() {
			n.label, n.grant, n.caps, n.approved, wasAlive = o.label, o.grant, o.caps, o.approved, true
			o.remove()
		}
	}
	if !wasAlive {
		n.grant, n.approved = grant{}, !f.approval
		n.label = "" // the name it had is not its own any more
		n.label = freeLabel(host, func(label string) bool {
			_, _, err := r.find(label)
			return err == nil || label == f.taken
		})
	}
	if given != nil {
		n.grant, n.approved = *given, n.approved || given.preauthorized
	}
}

// remove takes the node out of the tailnet. It learns so at its next poll.
func (n *node) remove() {
	n.deleted = true
	n.expiry = time.Time{}
}

// hangUp ends the polls of the node, so that it asks again at once.
func (n *node) hangUp() {
	for _, cancel := range n.streams {
		cancel()
	}
}
