package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// derp is the relay for packets between nodes that have not found a direct path,
// and the STUN server that helps them find one.
type derp struct {
	server   *derpserver.Server
	http     *http.Server
	ln       net.Listener
	stunPort int
	stopSTUN context.CancelFunc
}

func startDERP() (*derp, error) {
	cert, _, err := newServerCert()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	stun := stunserver.New(ctx)
	if err := stun.Listen("127.0.0.1:0"); err != nil {
		stop()
		return nil, fmt.Errorf("listen for STUN: %w", err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		stop()
		return nil, fmt.Errorf("listen for DERP: %w", err)
	}
	d := &derp{
		server:   derpserver.New(key.NewNode(), logger.Discard),
		ln:       ln,
		stunPort: stun.LocalAddr().(*net.UDPAddr).Port,
		stopSTUN: stop,
	}
	d.http = &http.Server{
		Handler:      derpserver.Handler(d.server),
		ErrorLog:     log.New(io.Discard, "", 0),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // DERP upgrades HTTP/1.1 only
	}
	go func() { _ = stun.Serve() }()
	go func() { _ = d.http.Serve(ln) }()
	return d, nil
}

// derpMap is what control tells the nodes about us: one region, this machine.
func (d *derp) derpMap() *tailcfg.DERPMap {
	node := &tailcfg.DERPNode{
		Name:             "1a",
		RegionID:         1,
		HostName:         "127.0.0.1",
		IPv4:             "127.0.0.1",
		IPv6:             "none",
		STUNPort:         d.stunPort,
		DERPPort:         portOf(d.ln),
		InsecureForTests: true, // its certificate is nobody's
		STUNTestIP:       "127.0.0.1",
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "local", Nodes: []*tailcfg.DERPNode{node}}
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}}
}

func (d *derp) close() error {
	d.stopSTUN()
	return errors.Join(d.http.Close(), d.server.Close())
}
