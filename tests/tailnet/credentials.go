package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// credentials is Tailscale's API for credentials, at the address of the control server.
// What a node holds for long becomes an access token, and that an auth key for one node:
//
//	POST /api/v2/oauth/token           the secret of an OAuth client ─► an access token
//	POST /api/v2/oauth/token-exchange  the token of a workload identity ─► an access token
//	POST /api/v2/tailnet/-/keys        an access token ─► an auth key
type credentials struct {
	faults  *faultBox
	journal *journal

	mu     sync.Mutex
	tokens map[string]bool
	keys   map[string]*authKey
}

// authKey is a key that the API made. It lets one node in, whatever key the tailnet wants.
type authKey struct {
	grant
	used bool // control.mu guards it: control decides about nodes
}

// grant is what such a key gives to its node.
type grant struct {
	ephemeral     bool
	preauthorized bool
	tags          []string
}

// reply is what the API answers, and what the journal says beside the path.
type reply struct {
	status int
	body   any
	note   string
}

func newCredentials(faults *faultBox, j *journal) *credentials {
	c := &credentials{faults: faults, journal: j}
	c.reset()
	return c
}

// reset makes every token and every key unknown.
func (c *credentials) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens, c.keys = map[string]bool{}, map[string]*authKey{}
}

// key returns what an auth key is, or nil when the API has not made it.
func (c *credentials) key(secret string) *authKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys[secret]
}

func (c *credentials) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(faults, *http.Request) reply{
		"POST /api/v2/oauth/token":            c.tokenForSecret,
		"POST /api/v2/oauth/token-exchange":   c.tokenForWorkload,
		"POST /api/v2/tailnet/{tailnet}/keys": c.createKey,
		"/":                                   func(faults, *http.Request) reply { return refusal(http.StatusNotFound, "not found") },
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, do) })
	}
	return mux
}

// serve answers one request, or does what the fault says.
func (c *credentials) serve(w http.ResponseWriter, r *http.Request, do func(faults, *http.Request) reply) {
	f := c.faults.get()
	if f.apiDown {
		c.journal.add(apiLog, "%s %s: no answer", r.Method, r.URL.Path)
		panic(http.ErrAbortHandler) // the server's way to hang up
	}
	answer := refusal(f.apiStatus, "fault of the local tailnet")
	if f.apiStatus == 0 {
		answer = do(f, r)
	}
	c.journal.add(apiLog, "%s %s: %d%s", r.Method, r.URL.Path, answer.status, answer.note)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(answer.status)
	_ = json.NewEncoder(w).Encode(answer.body) // the caller went away
}

func refusal(status int, message string) reply {
	return reply{status: status, body: map[string]string{"message": message}}
}

func (c *credentials) tokenForSecret(f faults, r *http.Request) reply {
	if f.oauthSecret != "" && clientSecret(r) != f.oauthSecret {
		return refusal(http.StatusUnauthorized, "API token invalid")
	}
	return c.newToken()
}

// tokenForWorkload answers a workload that it does not know as the real API does:
// https://github.com/tailscale/github-action/issues/227
func (c *credentials) tokenForWorkload(f faults, r *http.Request) reply {
	client, token := r.PostFormValue("client_id"), r.PostFormValue("jwt")
	if f.wifClient != "" && client != f.wifClient || f.wifToken != "" && token != f.wifToken {
		return refusal(http.StatusForbidden, "Unauthorized")
	}
	return c.newToken()
}

func (c *credentials) newToken() reply {
	token := "tskey-api-" + rand.Text()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[token] = true
	return reply{status: http.StatusOK, body: map[string]any{
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   3600,
	}}
}

func (c *credentials) createKey(_ faults, r *http.Request) reply {
	asked, err := readGrant(r)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error())
	}
	answer := c.newKey(accessToken(r), asked)
	answer.note = fmt.Sprintf(" ephemeral=%v preauthorized=%v tags=%s",
		asked.ephemeral, asked.preauthorized, strings.Join(asked.tags, ","))
	return answer
}

func (c *credentials) newKey(token string, g grant) reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tokens[token] {
		return refusal(http.StatusUnauthorized, "API token invalid")
	}
	id := rand.Text()[:9] + "CNTRL"
	secret := "tskey-auth-" + id + "-" + rand.Text()
	c.keys[secret] = &authKey{grant: g}
	return reply{status: http.StatusOK, body: map[string]string{"id": id, "key": secret}}
}

func readGrant(r *http.Request) (grant, error) {
	var asked struct {
		Capabilities struct {
			Devices struct {
				Create struct {
					Ephemeral     bool
					Preauthorized bool
					Tags          []string
				}
			}
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return grant{}, fmt.Errorf("read what the key is to be: %w", err)
	}
	create := asked.Capabilities.Devices.Create
	return grant{ephemeral: create.Ephemeral, preauthorized: create.Preauthorized, tags: create.Tags}, nil
}

// clientSecret returns the secret of an OAuth client, which comes in the header, escaped,
// or in the form: RFC 6749, 2.3.1. Go's client tries both when the first is refused.
func clientSecret(r *http.Request) string {
	_, escaped, ok := r.BasicAuth()
	if !ok {
		return r.PostFormValue("client_secret")
	}
	secret, err := url.QueryUnescape(escaped)
	if err != nil {
		return escaped
	}
	return secret
}

// accessToken returns the token of a request. Tailscale's own client sends it as the user
// name of a basic authorization when a workload identity brought it.
func accessToken(r *http.Request) string {
	if user, _, ok := r.BasicAuth(); ok {
		return user
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}
