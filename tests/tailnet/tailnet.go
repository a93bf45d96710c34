package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// addresses is the ready line: all that a test needs to use the tailnet.
type addresses struct {
	ControlURL    string `json:"control_url"`
	ACMEDirectory string `json:"acme_directory"`
	ACMECA        string `json:"acme_ca"`
	PublicCA      string `json:"public_ca"`
	Relay         string `json:"relay"`
	DNS           string `json:"dns"`
	API           string `json:"api"`
	Domain        string `json:"domain"`
	ClientAddress string `json:"client_address"`
}

// tailnet owns every part and ends them in reverse order of their start.
type tailnet struct {
	addresses addresses
	control   *control
	ca        *authority
	relay     *relay
	peer      *peer
	faults    *faultBox
	journal   *journal
	scratch   string // keys of our own nodes; always removed
	closers   []func() error
}

// startTailnet starts all parts; what has started is ended again when one fails.
// dir receives ca.pem and acme.pem; an empty dir means the scratch directory.
func startTailnet(ctx context.Context, dir string) (*tailnet, error) {
	tn := &tailnet{faults: newFaultBox(), journal: newJournal()}
	if err := tn.start(ctx, dir); err != nil {
		return nil, errorsAfter(err, tn.close())
	}
	return tn, nil
}

func (tn *tailnet) start(ctx context.Context, dir string) error {
	scratch, err := os.MkdirTemp("", "tailnet-")
	if err != nil {
		return fmt.Errorf("make the scratch directory: %w", err)
	}
	tn.scratch = scratch
	tn.onClose(func() error { return os.RemoveAll(scratch) })
	if dir == "" {
		dir = scratch
	}
	dns, err := startDNS(tn.faults)
	if err != nil {
		return err
	}
	tn.onClose(dns.close)
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the public: %w", err)
	}
	tn.onClose(func() error { return ignoreClosed(public.Close()) })
	// tls-alpn-01 then takes the same way as any client: relay, WireGuard, node.
	tn.ca, err = startAuthority(dns.forCA.Addr().String(), portOf(public), tn.faults, tn.journal)
	if err != nil {
		return err
	}
	tn.onClose(tn.ca.close)
	if err := tn.startNodes(ctx, dns, public); err != nil {
		return err
	}
	api, err := startAPI(tn)
	if err != nil {
		return err
	}
	tn.onClose(api.close)
	return tn.publish(dir, public, dns, api)
}

// startNodes starts the control server and the nodes that are ours.
func (tn *tailnet) startNodes(ctx context.Context, dns *dnsServer, public net.Listener) error {
	derp, err := startDERP()
	if err != nil {
		return err
	}
	tn.onClose(derp.close)
	tn.control, err = startControl(derp.derpMap(), dns, tn.faults, tn.journal)
	if err != nil {
		return err
	}
	tn.onClose(tn.control.close)
	tn.relay, err = startRelay(ctx, filepath.Join(tn.scratch, ingressLabel), public, tn.control, tn.faults, tn.journal)
	if err != nil {
		return err
	}
	tn.onClose(tn.relay.close)
	tn.peer = newPeer(filepath.Join(tn.scratch, peerLabel), tn.control, tn.relay)
	tn.onClose(tn.peer.close)
	return nil
}

// publish writes the certificates for clients and fills in the ready line.
func (tn *tailnet) publish(dir string, public net.Listener, dns *dnsServer, api *switchable) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find the directory for certificates: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for certificates: %w", err)
	}
	tn.addresses = addresses{
		ControlURL:    tn.control.url,
		ACMEDirectory: "https://" + tn.ca.addr() + "/dir",
		ACMECA:        filepath.Join(dir, "acme.pem"),
		PublicCA:      filepath.Join(dir, "ca.pem"),
		Relay:         public.Addr().String(),
		DNS:           dns.addr(),
		API:           "http://" + api.addr,
		Domain:        tn.faults.get().domain,
		ClientAddress: tn.faults.get().clientAddress.String(),
	}
	if err := os.WriteFile(tn.addresses.PublicCA, tn.ca.rootPEM(), 0o644); err != nil {
		return fmt.Errorf("write the public CA: %w", err)
	}
	if err := os.WriteFile(tn.addresses.ACMECA, tn.ca.serverPEM, 0o644); err != nil {
		return fmt.Errorf("write the CA of the ACME server: %w", err)
	}
	return nil
}

func (tn *tailnet) onClose(f func() error) { tn.closers = append(tn.closers, f) }

// reset makes the tailnet as it was at its start, so that tests can share one.
func (tn *tailnet) reset() error {
	tn.faults.reset()
	tn.control.reset()
	tn.ca.setValidity(defaultValidity)
	tn.journal.clear()
	return errors.Join(tn.control.http.up(), tn.ca.http.up(), tn.relay.follow())
}

// close ends every part, the last one started first.
func (tn *tailnet) close() error {
	var errs []error
	for i := len(tn.closers) - 1; i >= 0; i-- {
		errs = append(errs, tn.closers[i]())
	}
	tn.closers = nil
	return errors.Join(errs...)
}

// closeInTime ends a node without trust in its end: a tsnet server that has seen
// more than about 512 connections in the last minute hangs in Close for ever.
func closeInTime(c interface{ Close() error }) error {
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	select {
	case err := <-done:
		return ignoreClosed(err)
	case <-time.After(stopTimeout):
		return nil // the process ends next, and takes the node along
	}
}

// ignoreClosed drops the error of closing what is closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// errorsAfter joins the error of a clean-up to the one that led to it.
func errorsAfter(first, cleanup error) error {
	if cleanup == nil {
		return first
	}
	return errors.Join(first, cleanup)
}

// portOf returns the TCP port of a listener.
func portOf(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }
