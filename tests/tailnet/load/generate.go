package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// afterFailure keeps a node that is away from being asked in a loop.
const afterFailure = 10 * time.Millisecond

// plan is one run of the generator: so many callers, each with one request at a
// time, for some seconds or until a number of requests is done.
type plan struct {
	client
	callers int
	renew   bool // a new connection for each request
	seconds float64
	warm    float64 // seconds before the figures begin
	count   int64   // when not 0: so many requests, with neither warm nor seconds
	limit   time.Duration
	pids    pidList // what is measured
	way     pidList // everybody who takes part, but for this process
}

// figures are the generator's result.
type figures struct {
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	Error    string  `json:"error"` // the first one
	Seconds  float64 `json:"seconds"`
	RPS      float64 `json:"rps"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Max      float64 `json:"max_ms"`
	CPU      float64 `json:"cpu_s"`     // of -pids
	WayCPU   float64 `json:"way_cpu_s"` // of -way and of this process
}

func generate(ctx context.Context, arguments []string, stdout io.Writer) error {
	var p plan
	f := flag.NewFlagSet("generate", flag.ContinueOnError)
	p.flags(f)
	f.IntVar(&p.callers, "callers", 16, "callers at a time")
	f.BoolVar(&p.renew, "new", false, "a new connection for each request")
	f.Float64Var(&p.seconds, "seconds", 3, "how long to measure")
	f.Float64Var(&p.warm, "warm", 0.5, "seconds before that")
	f.Int64Var(&p.count, "count", 0, "stop after so many requests; then there is neither -warm nor -seconds")
	f.DurationVar(&p.limit, "limit", time.Minute, "the longest that -count may take")
	f.Var(&p.pids, "pids", "processes whose CPU time is measured: 12,34")
	f.Var(&p.way, "way", "processes that take part in a request, but for this one")
	if err := f.Parse(arguments); err != nil {
		return err
	}
	if err := p.prepare(); err != nil {
		return err
	}
	p.way = append(p.way, os.Getpid())
	result, err := p.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

// sample is one request that was answered.
type sample struct {
	began, ended time.Time
}

// caller sends one request after the other.
type caller struct {
	plan    *plan
	left    *atomic.Int64 // of plan.count
	samples []sample
	failed  []sample
	err     error
}

// run lets all callers loose and looks at the processes' CPU at both ends of the
// time that counts.
func (p *plan) run(ctx context.Context) (figures, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var left atomic.Int64
	left.Store(p.count)
	callers := make([]*caller, p.callers)
	var group sync.WaitGroup
	for i := range callers {
		callers[i] = &caller{plan: p, left: &left}
		group.Go(func() { callers[i].run(ctx) })
	}
	window, err := p.measure(ctx, &group)
	stop()
	group.Wait()
	if err != nil {
		return figures{}, err
	}
	return summarize(callers, window), nil
}

// window is the time that counts and the CPU seconds spent in it.
type window struct {
	from, to time.Time
	cpu, way float64
}

// spent adds the CPU seconds so far, times sign.
func (w *window) spent(p *plan, sign float64) error {
	cpu, err := p.pids.cpu()
	way, wayErr := p.way.cpu()
	w.cpu, w.way = w.cpu+sign*cpu, w.way+sign*way
	return errors.Join(err, wayErr)
}

// measure returns when the time is over or, with a count, when all callers are.
func (p *plan) measure(ctx context.Context, callers *sync.WaitGroup) (window, error) {
	if p.count == 0 {
		sleep(ctx, p.warm)
	}
	w := window{from: time.Now()}
	if err := w.spent(p, -1); err != nil {
		return w, err
	}
	if p.count == 0 {
		sleep(ctx, p.seconds)
	} else if err := waitFor(callers, p.limit); err != nil {
		return w, err
	}
	err := w.spent(p, 1)
	w.to = time.Now()
	return w, errors.Join(err, ctx.Err())
}

func waitFor(group *sync.WaitGroup, limit time.Duration) error {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the requests were not done in %s", limit)
	}
}

func sleep(ctx context.Context, seconds float64) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(seconds * float64(time.Second))):
	}
}

func (c *caller) run(ctx context.Context) {
	var on *conn
	for ctx.Err() == nil && (c.plan.count == 0 || c.left.Add(-1) >= 0) {
		began := time.Now()
		var err error
		if on, err = c.request(ctx, on); err != nil {
			if ctx.Err() == nil { // else we broke it ourselves
				c.fail(began, err)
			}
			sleep(ctx, afterFailure.Seconds())
			continue
		}
		c.samples = append(c.samples, sample{began, time.Now()})
	}
	if on != nil {
		_ = on.NetConn().Close()
	}
}

func (c *caller) fail(began time.Time, err error) {
	c.failed = append(c.failed, sample{began, time.Now()})
	if c.err == nil {
		c.err = err
	}
}

// request sends one request, on the connection given or on a new one; it returns
// the connection for the next.
func (c *caller) request(ctx context.Context, on *conn) (*conn, error) {
	if c.plan.renew {
		return nil, c.plan.once(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, c.plan.timeout)
	defer cancel()
	if on == nil {
		var err error
		if on, err = c.plan.dial(limited); err != nil {
			return nil, err
		}
	}
	unwatch := context.AfterFunc(limited, func() { _ = on.NetConn().Close() })
	defer unwatch()
	if err := c.plan.post(on); err != nil {
		_ = on.NetConn().Close()
		return nil, err
	}
	return on, nil
}

// summarize counts what ended within the window.
func summarize(callers []*caller, w window) figures {
	within := func(s sample) bool { return s.ended.After(w.from) && !s.ended.After(w.to) }
	var took []time.Duration
	result := figures{Seconds: w.to.Sub(w.from).Seconds(), CPU: w.cpu, WayCPU: w.way}
	for _, c := range callers {
		for _, s := range c.samples {
			if within(s) {
				took = append(took, s.ended.Sub(s.began))
			}
		}
		result.Errors += len(c.failed)
		if c.err != nil && result.Error == "" {
			result.Error = strings.TrimSpace(c.err.Error())
		}
	}
	slices.Sort(took)
	result.Requests = len(took)
	if result.Requests == 0 {
		return result
	}
	result.RPS = float64(result.Requests) / result.Seconds
	at := func(part float64) float64 {
		return took[min(int(part*float64(len(took))), len(took)-1)].Seconds() * 1e3
	}
	result.P50, result.P99, result.Max = at(0.5), at(0.99), at(1)
	return result
}
