package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/net/netns"
	"tailscale.com/tsnet"
	"tailscale.com/types/logger"
)

const (
	upTimeout    = 30 * time.Second
	closeTimeout = time.Second // Close can hang for ever after many connections
)

// direct is the limit for any program on tsnet: nothing but the node, one parsed
// certificate in one tls.Config, and the answer.
func direct(ctx context.Context, arguments []string, stdout io.Writer) error {
	node := &tsnet.Server{Logf: logger.Discard, UserLogf: logger.Discard}
	f := flag.NewFlagSet("direct", flag.ContinueOnError)
	f.StringVar(&node.Hostname, "hostname", "direct", "name of the node")
	f.StringVar(&node.Dir, "state", "", "folder of its state")
	f.StringVar(&node.ControlURL, "control", "", "address of the control server")
	f.StringVar(&node.AuthKey, "key", "", "auth key")
	if err := f.Parse(arguments); err != nil {
		return err
	}
	stayOnLoopback()
	ctx, cancel := untilStdinEnds(ctx)
	defer cancel()
	defer closeInTime(node)
	ln, err := openFunnel(ctx, node)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ready")
	return serve(ctx, ln)
}

// stayOnLoopback switches off all that would leave the machine; see ../main.go.
func stayOnLoopback() {
	envknob.SetNoLogsNoSupport()
	envknob.Setenv("TS_DISABLE_PORTMAPPER", "true")
	envknob.Setenv("TS_DISABLE_UPNP", "true")
	netns.SetEnabled(false)
}

func openFunnel(ctx context.Context, node *tsnet.Server) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	status, err := node.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	if len(status.CertDomains) == 0 {
		return nil, errors.New("the tailnet gives the node no certificate")
	}
	local, err := node.LocalClient()
	if err != nil {
		return nil, err
	}
	certPEM, keyPEM, err := local.CertPair(ctx, status.CertDomains[0])
	if err != nil {
		return nil, fmt.Errorf("get the certificate: %w", err)
	}
	certificate, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	}
	return node.ListenFunnel("tcp", ":443", tsnet.FunnelOnly(), tsnet.FunnelTLSConfig(config))
}

func closeInTime(node io.Closer) {
	done := make(chan struct{})
	go func() {
		_ = node.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeTimeout):
	}
}
