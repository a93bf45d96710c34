package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"tailscale.com/tsnet"
	"tailscale.com/types/logger"
)

// peerPoll is how often a node that is not yet in the netmap is looked for.
const peerPoll = 2 * time.Millisecond

// newOwnNode makes a node that is part of the kit.
func newOwnNode(label, dir, controlURL string) *tsnet.Server {
	return &tsnet.Server{
		Hostname:   label,
		Dir:        dir,
		ControlURL: controlURL,
		Logf:       logger.Discard,
		UserLogf:   logger.Discard,
	}
}

// awaitRoute waits until a node knows a way to another one. What it sends before that is
// lost, and WireGuard tries again after 5 s only.
func awaitRoute(ctx context.Context, from *tsnet.Server, to netip.AddrPort) error {
	local, err := from.LocalClient()
	if err != nil {
		return err
	}
	for {
		who, err := local.WhoIs(ctx, to.String())
		if err == nil && who.Node.HomeDERP != 0 {
			return nil
		}
		if !pause(ctx, peerPoll) {
			return fmt.Errorf("%s knows no way to %s", from.Hostname, to.Addr())
		}
	}
}

// dialTailnet connects to a node of the tailnet, once it is in the netmap, and never to
// anything else: tsnet's own Dial takes an address that the netmap lacks for one of the
// internet and gives it to the operating system.
func dialTailnet(ctx context.Context, from *tsnet.Server, to netip.AddrPort) (net.Conn, error) {
	dialer := from.Sys().Dialer.Get()
	for !dialer.UseNetstackForIP(to.Addr()) {
		if !pause(ctx, peerPoll) {
			return nil, fmt.Errorf("%s is not in the netmap of %s", to.Addr(), from.Hostname)
		}
	}
	return dialer.NetstackDialTCP(ctx, to)
}
