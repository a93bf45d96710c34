package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyAPI is the part of Tailscale's API that makes auth keys; answer may refuse.
type keyAPI struct {
	*httptest.Server
	status int
	seen   []string
	asked  struct {
		Capabilities struct {
			Devices struct {
				Create struct {
					Ephemeral, Preauthorized bool
					Tags                     []string
				}
			}
		}
	}
}

func startKeyAPI(t *testing.T) *keyAPI {
	a := &keyAPI{status: 200}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		_, password, _ := r.BasicAuth()
		a.seen = append(a.seen, strings.TrimSpace(r.URL.Path+" "+password+r.Form.Get("client_secret")+r.Form.Get("client_id")+" "+r.Form.Get("jwt")))
		w.Header().Set("Content-Type", "application/json")
		switch {
		case a.status != 200:
			w.WriteHeader(a.status)
			_, _ = w.Write([]byte(`{"message":"no"}`))
		case strings.HasSuffix(r.URL.Path, "/keys"):
			_ = json.NewDecoder(r.Body).Decode(&a.asked)
			_, _ = w.Write([]byte(`{"id":"k1","key":"tskey-auth-minted"}`))
		default:
			_, _ = w.Write([]byte(`{"access_token":"t","token_type":"Bearer"}`))
		}
	}))
	t.Cleanup(a.Close)
	return a
}

// A plain key is used as it is; nothing is asked.
func TestPlainKeyIsItself(t *testing.T) {
	for _, key := range []secret{aKey, ""} {
		if got, err := (credential{key: key}).mint(t.Context()); err != nil || key != got {
			t.Error(string(got), err)
		}
	}
}

// The secret becomes a key for a node that stays and needs no approval, unless it says otherwise.
func TestOAuthSecretMakesAKey(t *testing.T) {
	for attributes, want := range map[string][2]bool{"": {false, true}, "?ephemeral=true": {true, true}, "?preauthorized=false": {false, false}} {
		api := startKeyAPI(t)
		c := credential{key: secret("tskey-client-k" + attributes), tags: []string{"tag:g"}, api: api.URL}
		key, err := c.mint(t.Context())
		asked := api.asked.Capabilities.Devices.Create
		if err != nil || key != "tskey-auth-minted" || want != [2]bool{asked.Ephemeral, asked.Preauthorized} || len(asked.Tags) != 1 {
			t.Errorf("%q: %v %+v", attributes, err, asked)
		}
		if !strings.Contains(api.seen[0], "/api/v2/oauth/token tskey-client-k") {
			t.Error(api.seen)
		}
	}
}

// A workload's token is exchanged; one in a file is read each time, because it is changed there.
func TestWorkloadIdentityMakesAKey(t *testing.T) {
	api := startKeyAPI(t)
	file := filepath.Join(t.TempDir(), "token")
	c := credential{identity: identity{ClientID: "kC?ephemeral=true", IDToken: secret("file:" + file)}, tags: []string{"tag:g"}, api: api.URL}
	for _, token := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, err := c.mint(t.Context()); err != nil || key != "tskey-auth-minted" {
			t.Fatal(err)
		}
		if exchange := api.seen[len(api.seen)-2]; exchange != "/api/v2/oauth/token-exchange kC "+token {
			t.Error(exchange)
		}
	}
	if !api.asked.Capabilities.Devices.Create.Ephemeral {
		t.Error("the client id's wish was not passed on")
	}
	c.identity.IDToken = "file:/nowhere"
	if _, err := c.mint(t.Context()); err == nil || isRefusal(err) {
		t.Error("a file that is not there yet may come:", err)
	}
}

// An API that says no is told from one that is away, busy or broken.
func TestRefusalIsToldFromAnOutage(t *testing.T) {
	for status, refused := range map[int]bool{400: true, 401: true, 403: true, 408: false, 429: false, 500: false, 503: false} {
		api := startKeyAPI(t)
		api.status = status
		_, err := credential{key: "tskey-client-k", tags: []string{"tag:g"}, api: api.URL}.mint(t.Context())
		if err == nil || refused != isRefusal(err) {
			t.Errorf("%d: %v", status, err)
		}
	}
	away := credential{key: "tskey-client-k", api: "http://127.0.0.1:1"}
	if _, err := away.mint(t.Context()); err == nil || isRefusal(err) {
		t.Error(err)
	}
}

// The small build says what it lacks.
func TestAudienceNeedsTheOtherBuild(t *testing.T) {
	c := credential{identity: identity{ClientID: "kC", Audience: "a"}, api: "http://127.0.0.1:1"}
	if _, err := c.mint(t.Context()); !isRefusal(err) || !strings.Contains(err.Error(), "REPO_GUARDIAN_WIF=1") {
		t.Error(err)
	}
}
