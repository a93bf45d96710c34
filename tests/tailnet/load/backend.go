package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
)

// backend answers on a Unix socket, as fast as a parent could.
func backend(ctx context.Context, arguments []string, stdout io.Writer) error {
	f := flag.NewFlagSet("backend", flag.ContinueOnError)
	socket := f.String("socket", "", "path of the Unix socket")
	if err := f.Parse(arguments); err != nil {
		return err
	}
	ctx, cancel := untilStdinEnds(ctx)
	defer cancel()
	ln, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "ready")
	return serve(ctx, ln)
}

// serve answers 202 to all that comes, once its body is read, until ctx ends.
func serve(ctx context.Context, ln net.Listener) error {
	plain := new(http.Protocols)
	plain.SetHTTP1(true)
	server := &http.Server{Handler: http.HandlerFunc(accepted), Protocols: plain}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func accepted(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err == nil {
		w.WriteHeader(http.StatusAccepted)
	}
}
