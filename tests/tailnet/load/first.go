package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// firstAnswer says when a node answered for the first time.
type firstAnswer struct {
	At      float64 `json:"at"`      // seconds since the epoch
	Took    float64 `json:"took"`    // of the request that was answered first
	Sent    int     `json:"sent"`    // requests until then
	Refused int     `json:"refused"` // of these, ended without an answer
}

// first sends a request every few milliseconds, whatever became of those before,
// as callers do that know nothing of each other, until one is answered. It prints
// a line before the first, so that what is measured can be started after that.
func first(ctx context.Context, arguments []string, stdout io.Writer) error {
	var c client
	f := flag.NewFlagSet("first", flag.ContinueOnError)
	c.flags(f)
	every := f.Duration("every", 20*time.Millisecond, "pause between two requests")
	limit := f.Duration("limit", 30*time.Second, "how long to go on")
	if err := f.Parse(arguments); err != nil {
		return err
	}
	if err := c.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	fmt.Fprintln(stdout, "sending")
	result, err := c.untilAnswered(ctx, *every)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

// ending is how one of many requests ended.
type ending struct {
	began, ended time.Time
	err          error
}

func (c *client) untilAnswered(ctx context.Context, every time.Duration) (firstAnswer, error) {
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	endings := make(chan ending)
	var result firstAnswer
	last := errors.New("all ran out of time")
	for {
		result.Sent++
		go func() {
			began := time.Now()
			err := c.once(ctx)
			select {
			case endings <- ending{began, time.Now(), err}:
			case <-ctx.Done():
			}
		}()
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return result, fmt.Errorf("%d requests and no answer; the last error: %w", result.Sent, last)
			case e := <-endings:
				if e.err == nil {
					result.At = float64(e.ended.UnixNano()) / 1e9
					result.Took = e.ended.Sub(e.began).Seconds()
					return result, nil
				}
				result.Refused++
				if !os.IsTimeout(e.err) && !errors.Is(e.err, context.DeadlineExceeded) {
					last = e.err
				}
			case <-ticks.C:
				waiting = false
			}
		}
	}
}
