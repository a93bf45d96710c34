// Command load is what `make bench` measures with: the requests, what answers
// them, and the fastest node that there could be.
//
//	load generate   requests through the public relay; figures as JSON on stdout
//	load first      asks again and again until the first 202; when it came, as JSON
//	load backend    a Unix socket that answers 202 to everything
//	load direct     a Funnel node on tsnet that answers 202 itself, without a proxy
//
// backend and direct print "ready" and end with their stdin, so that they never
// outlive the benchmark.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// command does one of the program's jobs until it is done or ctx ends.
type command func(ctx context.Context, arguments []string, stdout io.Writer) error

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string, stdout io.Writer) error {
	commands := map[string]command{
		"generate": generate,
		"first":    first,
		"backend":  backend,
		"direct":   direct,
	}
	if len(arguments) == 0 || commands[arguments[0]] == nil {
		return fmt.Errorf("%q: expected generate, first, backend or direct", strings.Join(arguments, " "))
	}
	return commands[arguments[0]](ctx, arguments[1:], stdout)
}

// untilStdinEnds ends ctx when the parent closes our stdin, or dies.
func untilStdinEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end, for whatever reason, is the parent's end
		cancel()
	}()
	return ctx, cancel
}
