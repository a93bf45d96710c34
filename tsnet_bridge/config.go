package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	protocolVersion = 1
	// maxDocument bounds the start document; a real one has less than 4 KiB.
	maxDocument = 1 << 20
	// maxSocketPath is sun_path's 108 bytes without its terminating zero.
	maxSocketPath = 107
)

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	aclTag   = regexp.MustCompile(`^tag:[a-zA-Z][a-zA-Z0-9-]*$`)
	urlPath  = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
	levels   = map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo,
		"warning": slog.LevelWarn, "error": slog.LevelError,
	}
	// funnelPorts are the only public ports that Funnel has.
	funnelPorts = []int{443, 8443, 10000}
)

// config is the start document, checked.
type config struct {
	Hostname      string
	StateDir      string
	ControlSocket string
	AppSocket     string
	WebhookPath   string
	AuthKey       secret
	Identity      identity
	ControlURL    string
	Tags          []string
	AnyName       bool     // serve under another name than Hostname, when control gives one
	TailnetPaths  []string // what members of the tailnet may GET; empty: the Funnel only
	Port          int
	Loopback      string // of the local tailnet: host:port where its public side is; empty: the real one
	Restarts      int
	Repaired      bool // the child before this one asked to be replaced, because its public path was down
	Probe         probing
	LogLevel      slog.Level
	Grace         time.Duration
	Limits        limits
}

// identity is a workload identity: a client id, and a token of its provider or
// the audience to ask the provider for one with.
type identity struct {
	ClientID string
	IDToken  secret // or file:/path, read when it is used
	Audience string
}

// probing says how our own public address is watched.
type probing struct {
	Interval time.Duration // 0: not at all
	Resolver string        // host:port of a DNS server; empty: the system's
}

// limits bound what one caller, and all callers together, may use.
type limits struct {
	MaxBody           int64
	MaxHeader         int
	MaxConnections    int
	SourceConnections int     // of one source address
	SourceRate        float64 // requests a second of one source address
	ReadHeaderTimeout time.Duration
	ReadTimeout       time.Duration
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
}

// readConfig reads one line of JSON and checks it; what follows stays unread.
// All problems are reported together; a value of auth_key never is.
func readConfig(input *bufio.Reader) (config, error) {
	line, err := readLine(input)
	if err != nil {
		return config{}, invalid("stdin: " + err.Error())
	}
	return parseConfig(line)
}

// readLine returns the first line, which the end of the input may end too.
func readLine(input *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := input.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxDocument:
			return nil, errors.New("the document has more than 1 MiB")
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("expected one JSON document and a newline, got nothing")
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// parseConfig turns the document into a config, or says all that is wrong.
func parseConfig(document []byte) (config, error) {
	d, err := open(document, "")
	if err != nil {
		return config{}, invalid("stdin: expected a JSON object")
	}
	if err := checkProtocol(d.raw["protocol"]); err != nil {
		return config{}, err
	}
	take[int](d, "protocol", "")
	c := config{
		Hostname:      d.match("hostname", dnsLabel, "one DNS label: a-z, 0-9 and '-', at most 63 characters"),
		StateDir:      d.absolute("state_dir"),
		ControlSocket: d.absolute("control_socket"),
		AppSocket:     d.absolute("app_socket"),
		WebhookPath:   d.match("webhook_path", urlPath, "a path such as /webhooks/github"),
		AuthKey:       secret(take[string](d, "auth_key", "a string")),
		Identity:      d.identity("identity"),
		ControlURL:    d.address("control_url"),
		Tags:          d.tags("tags"),
		AnyName:       take[bool](d, "any_name", "true or false"),
		TailnetPaths:  d.paths("tailnet_paths"),
		Port:          take[int](d, "port", "443, 8443 or 10000"),
		Loopback:      d.hostPort("loopback"),
		Restarts:      int(d.count("restarts", 0, 1<<31)),
		Repaired:      take[bool](d, "repaired", "true or false"),
		Probe:         d.probing("probe"),
		LogLevel:      d.level("log_level"),
		Grace:         d.seconds("shutdown_grace_s", 0, 600),
		Limits:        d.limits("limits"),
	}
	if _, given := d.problems["port"]; !given && !slices.Contains(funnelPorts, c.Port) {
		d.problem("port", "443, 8443 or 10000")
	}
	if (isOAuth(c.AuthKey) || c.Identity.ClientID != "") && len(c.Tags) == 0 {
		d.problem("tags", "at least one tag, because an OAuth client or a workload identity makes the auth key")
	}
	if isOAuth(c.AuthKey) {
		d.attributes("auth_key", string(c.AuthKey))
	}
	d.attributes("identity", c.Identity.ClientID)
	d.refuseUnknown()
	if len(d.problems) > 0 {
		return c, invalid(d.summary())
	}
	return c, checkSocketPaths(c)
}

func invalid(message string) *fault {
	return &fault{codeConfigInvalid, message,
		"the parent and tsnet_bridge must come from the same version of repo-guardian; see docs/bridge-protocol.md"}
}

// checkProtocol comes first: with another version nothing else is comparable.
func checkProtocol(raw json.RawMessage) error {
	var got int
	if json.Unmarshal(raw, &got) != nil || got == protocolVersion || string(raw) == "null" {
		return nil // absent or of a wrong type is reported with the other fields
	}
	return &fault{codeProtocolMismatch,
		fmt.Sprintf("the parent speaks protocol %d, this tsnet_bridge %s speaks %d", got, version, protocolVersion),
		"install repo-guardian again, or unset TSNET_BRIDGE_BIN: the binary is of another version"}
}

func checkSocketPaths(c config) error {
	for name, path := range map[string]string{"control_socket": c.ControlSocket, "app_socket": c.AppSocket} {
		if len(path) > maxSocketPath {
			return &fault{codeSocketPathTooLong,
				fmt.Sprintf("%s has %d bytes, a Unix socket's path may have %d", name, len(path), maxSocketPath),
				"choose a shorter folder for the sockets, such as one under /run or /tmp"}
		}
	}
	return nil
}

// fields is a JSON object that is taken apart name by name; what is left over
// is unknown, what is wrong is collected.
type fields struct {
	prefix   string
	raw      map[string]json.RawMessage
	problems map[string]string
}

func open(document []byte, prefix string) (*fields, error) {
	d := &fields{prefix: prefix, problems: map[string]string{}}
	if err := json.Unmarshal(document, &d.raw); err != nil || d.raw == nil {
		return d, errors.New("not a JSON object")
	}
	return d, nil
}

func (d *fields) problem(name, expected string) {
	if _, told := d.problems[d.prefix+name]; !told {
		d.problems[d.prefix+name] = "expected " + expected
	}
}

func (d *fields) refuseUnknown() {
	for name := range d.raw {
		d.problems[d.prefix+name] = "unknown field"
	}
}

func (d *fields) summary() string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(d.problems)) {
		texts = append(texts, name+": "+d.problems[name])
	}
	return strings.Join(texts, "; ")
}

// take removes one field and decodes it; null is a wrong type like any other.
func take[T any](d *fields, name, expected string) T {
	var value T
	raw, given := d.raw[name]
	delete(d.raw, name)
	switch {
	case !given:
		d.problems[d.prefix+name] = "missing"
	case string(raw) == "null" || json.Unmarshal(raw, &value) != nil:
		if expected == "" {
			expected = fmt.Sprintf("the number %d", protocolVersion)
		}
		d.problem(name, expected)
	}
	return value
}

func (d *fields) match(name string, pattern *regexp.Regexp, expected string) string {
	value := take[string](d, name, expected)
	if !pattern.MatchString(value) && d.problems[d.prefix+name] == "" {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) absolute(name string) string {
	const expected = "an absolute path"
	value := take[string](d, name, expected)
	if d.problems[d.prefix+name] == "" && (!filepath.IsAbs(value) || strings.ContainsRune(value, 0)) {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) address(name string) string {
	const expected = "an empty string or an address that begins with http:// or https://"
	value := take[string](d, name, expected)
	u, err := url.Parse(value)
	if value != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) tags(name string) []string {
	const expected = "a list of names such as tag:guardian"
	value := take[[]string](d, name, expected)
	if slices.ContainsFunc(value, func(tag string) bool { return !aclTag.MatchString(tag) }) {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) level(name string) slog.Level {
	const expected = "debug, info, warning or error"
	value, known := levels[take[string](d, name, expected)]
	if !known && d.problems[d.prefix+name] == "" {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) count(name string, least, most int64) int64 {
	expected := fmt.Sprintf("a whole number from %d to %d", least, most)
	value := take[int64](d, name, expected)
	if d.problems[d.prefix+name] == "" && (value < least || value > most) {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) number(name string, least, most float64, unit string) float64 {
	expected := fmt.Sprintf("%s from %g to %g", unit, least, most)
	value := take[float64](d, name, expected)
	if d.problems[d.prefix+name] == "" && (value < least || value > most) {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) seconds(name string, least, most float64) time.Duration {
	return time.Duration(d.number(name, least, most, "seconds") * float64(time.Second))
}

func (d *fields) paths(name string) []string {
	const expected = "a list of paths such as /status"
	value := take[[]string](d, name, expected)
	if slices.ContainsFunc(value, func(path string) bool { return !urlPath.MatchString(path) }) {
		d.problem(name, expected)
	}
	return value
}

func (d *fields) hostPort(name string) string {
	const expected = "an empty string or an address such as 127.0.0.1:53"
	value := take[string](d, name, expected)
	if _, err := netip.ParseAddrPort(value); value != "" && err != nil {
		d.problem(name, expected)
	}
	return value
}

// inner opens an object within the document; its problems are the document's.
func (d *fields) inner(name string) (*fields, bool) {
	in, err := open(take[json.RawMessage](d, name, "an object"), d.prefix+name+".")
	if err != nil {
		if d.problems[d.prefix+name] == "" {
			d.problem(name, "an object")
		}
		return nil, false
	}
	in.problems = d.problems
	return in, true
}

func (d *fields) identity(name string) identity {
	in, ok := d.inner(name)
	if !ok {
		return identity{}
	}
	i := identity{
		ClientID: take[string](in, "client_id", "a string"),
		IDToken:  secret(take[string](in, "id_token", "a string")),
		Audience: take[string](in, "audience", "a string"),
	}
	in.refuseUnknown()
	if given := i.IDToken != "" || i.Audience != ""; given != (i.ClientID != "") || i.IDToken != "" && i.Audience != "" {
		d.problem(name, "client_id with either id_token or audience, or all three empty")
	}
	return i
}

func (d *fields) attributes(name, text string) {
	if _, _, err := keyAttributes(text); err != nil {
		d.problem(name, "known attributes; "+err.Error())
	}
}

func (d *fields) probing(name string) probing {
	in, ok := d.inner(name)
	if !ok {
		return probing{}
	}
	p := probing{
		Interval: in.seconds("interval_s", 0, 86_400),
		Resolver: in.hostPort("resolver"),
	}
	in.refuseUnknown()
	return p
}

func (d *fields) limits(name string) limits {
	in, ok := d.inner(name)
	if !ok {
		return limits{}
	}
	const shortest, longest = 0.001, 3600
	l := limits{
		MaxBody:           in.count("max_body_bytes", 1, 1<<30),
		MaxHeader:         int(in.count("max_header_bytes", 1024, 1<<20)),
		MaxConnections:    int(in.count("max_connections", 1, 100_000)),
		SourceConnections: int(in.count("max_source_connections", 1, 100_000)),
		SourceRate:        in.number("max_source_requests_per_s", 0.01, 1e6, "requests a second"),
		ReadHeaderTimeout: in.seconds("read_header_timeout_s", shortest, longest),
		ReadTimeout:       in.seconds("read_timeout_s", shortest, longest),
		WriteTimeout:      in.seconds("write_timeout_s", shortest, longest),
		IdleTimeout:       in.seconds("idle_timeout_s", shortest, longest),
	}
	in.refuseUnknown()
	return l
}
