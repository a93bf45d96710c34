// Command tailnet is a whole Tailscale tailnet on 127.0.0.1, for tests and the demo.
//
// It runs a control server, the API for credentials, a relay for packets (DERP
// and STUN), a certificate authority, a DNS server and the public ingress of
// Funnel, so that a real helper process can enrol, get a real certificate and be
// reached "from the internet" with nothing leaving the machine. Every fault that
// a tailnet can have is one request to its fault API (api.go).
//
// When all is up it prints one line of JSON with its addresses. It ends when its
// stdin closes, so that it never outlives the test that started it, or on
// SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/net/netns"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 3 * time.Second
)

func main() {
	dir := flag.String("dir", "", "directory for ca.pem and acme.pem; kept at the end (default: a temporary one, removed)")
	flag.Parse()
	stayOnLoopback()
	// The libraries write what is normal here (a client that went away) to the
	// standard logger; stderr is for errors only.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, *dir, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tailnet:", err)
		os.Exit(1)
	}
}

// run starts the tailnet, says so on stdout and waits for the end of ctx or stdin.
func run(ctx context.Context, dir string, stdin io.Reader, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // its end, for whatever reason, is the parent's end
		cancel()
	}()
	tn, err := startTailnet(ctx, dir)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(stdout).Encode(tn.addresses); err != nil {
		return fmt.Errorf("write the ready line: %w", errorsAfter(err, tn.close()))
	}
	<-ctx.Done()
	return tn.close()
}

// stayOnLoopback switches off all that would leave the machine. It must come
// before anything of Tailscale starts, because the switches are read once.
func stayOnLoopback() {
	envknob.SetNoLogsNoSupport()
	envknob.Setenv("TS_DISABLE_PORTMAPPER", "true")
	envknob.Setenv("TS_DISABLE_UPNP", "true")
	// Sockets bound to the default interface, which is what netns does without
	// CAP_NET_ADMIN, cannot reach 127.0.0.1.
	netns.SetEnabled(false)
}
