package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	toolPay    = "payments.initiate"
	toolStatus = "payments.status"
	payee      = "DE89370400440532013000"
	otherPayee = "DE02120300000000202051"
	// blockedPayee is listed in policies/examples/payments/data.json.
	blockedPayee = "GB33BUKB20201555555555"
	price        = "120.00"
)

// demo is the stage: the programs, the two tokens in use, and the score.
type demo struct {
	screen
	root, dir string
	logs      *logTail

	authority     *authority
	authzd, bank  *program
	web, local    *agent
	purse         purse
	tokenFile     string
	hint          *refusal // what the last refusal asked for
	steps, failed int
	score         []string
}

// start begins all programs. The agent's first token has a scope, no more.
func (d *demo) start(ctx context.Context) error {
	d.logs = &logTail{}
	if d.verbose {
		d.logs.also = os.Stderr
	}
	var err error
	if d.authority, err = newAuthority(ctx); err != nil {
		return err
	}
	d.authzd, err = launch(ctx, d.logs, nil, filepath.Join(d.dir, "authzd"), "serve",
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
		"--bundle", "payments="+filepath.Join(d.root, "policies", "examples", "payments"))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, d.logs)
	}
	d.bank, err = launch(ctx, d.logs, d.bankEnv(), d.bankBinary(), append(d.bankArgs(), "-http", "127.0.0.1:0")...)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, d.logs)
	}
	d.purse.token.Store(d.authority.grant([]string{"payments"}, nil))
	d.web, err = connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:   "http://" + d.bank.http + "/mcp",
		HTTPClient: &http.Client{Transport: &d.purse},
	})
	return err
}

func (d *demo) bankBinary() string { return filepath.Join(d.dir, "server") }

func (d *demo) bankArgs() []string {
	return []string{"-pdp", d.authzd.grpc, "-introspect", d.authority.url, "-issuer", issuer, "-resource", resource}
}

func (d *demo) bankEnv() []string { return []string{"INTROSPECTION_SECRET=" + d.authority.secret} }

func (d *demo) close() {
	d.local.close()
	d.web.close()
	d.bank.stop()
	d.authzd.stop()
	d.authority.close()
}

// step runs one scene and scores it.
func (d *demo) step(ctx context.Context, title string, scene func(context.Context) error) {
	d.steps++
	d.heading(fmt.Sprintf("%d. %s", d.steps, title))
	word := "ok    "
	if err := scene(ctx); err != nil {
		word = "FAILED"
		d.failed++
		d.say("NOT AS EXPECTED: %v", err)
	}
	d.score = append(d.score, fmt.Sprintf("%s  %2d. %s", word, d.steps, title))
}

func (d *demo) summary() error {
	d.heading("Summary")
	for _, line := range d.score {
		d.say("%s", line)
	}
	if d.failed > 0 {
		return fmt.Errorf("%d of %d steps failed; the programs logged:\n%s", d.failed, d.steps, d.logs)
	}
	return nil
}

func (d *demo) script(ctx context.Context) {
	d.heading("An agent pays a bill, and can do no more than its customer approved")
	d.say("customer   Alice, whose money it is")
	d.say("agent      a program that acts for Alice (an MCP client)")
	d.say("bank       an MCP server with the tools %s and %s", toolPay, toolStatus)
	d.say("authzd     decides: the bank's server asks it before every call")
	d.say("issuer     gives the agent access tokens, after asking Alice")
	_, _ = fmt.Fprintln(d.out)
	d.say("All of them run now on this machine. The agent speaks MCP %s over HTTP.", d.web.version())

	d.step(ctx, "The agent asks to pay and is refused", d.refusedWithoutApproval)
	d.step(ctx, "The customer approves, and the agent gets a new token", d.approve)
	d.step(ctx, "The same call again: allowed", d.paid)
	d.step(ctx, "A higher amount with the same token: refused", func(ctx context.Context) error {
		return d.refusedPayment(ctx, "500.00", payee)
	})
	d.step(ctx, "Another payee with the same token: refused", func(ctx context.Context) error {
		return d.refusedPayment(ctx, price, otherPayee)
	})
	d.step(ctx, "A blocked payee: refused for good", d.blocked)
	d.step(ctx, "What was refused was not done", d.status)
	d.step(ctx, "Without HTTP (stdio): refused, and told in the result", d.refusedOverStdio)
	d.step(ctx, "The customer approves: allowed over stdio", d.paidOverStdio)
	d.step(ctx, "authzd is stopped: nobody pays anything", d.undecided)
}

// pay calls payments.initiate and tells what came of it.
func (d *demo) pay(ctx context.Context, a *agent, amount, account string) (outcome, error) {
	d.say("agent:  pay %s EUR to %s", amount, account)
	return d.tell(a.call(ctx, toolPay, map[string]string{
		"amount": amount, "currency": "EUR", "creditorAccount": account,
	}))
}

func (d *demo) tell(o outcome, err error) (outcome, error) {
	switch {
	case err != nil:
	case o.refused != nil:
		d.say("bank:   no (%s). Nothing was done.", o.refused.how)
	default:
		d.say("bank:   done. %s: %s %s to %s, %s.", o.payment.PaymentID,
			o.payment.Amount, o.payment.Currency, o.payment.CreditorAccount, o.payment.Status)
	}
	d.raw(o.raw)
	return o, err
}

// refusedFor calls and expects a refusal that asks for exactly this payment.
func (d *demo) refusedFor(ctx context.Context, a *agent, amount, account string) error {
	d.hint = nil
	o, err := d.pay(ctx, a, amount, account)
	if err != nil {
		return err
	}
	if o.refused == nil {
		return errors.New("it was not refused")
	}
	d.approval(o.refused)
	list, err := payments(o.refused.details)
	if err != nil || len(list) != 1 {
		return fmt.Errorf("the refusal names no payment to approve: %s", o.refused.details)
	}
	if got := list[0]; got.InstructedAmount.Amount != amount || got.InstructedAmount.Currency != "EUR" || got.CreditorAccount.IBAN != account {
		return fmt.Errorf("the refusal asks for another payment: %s", o.refused.details)
	}
	d.hint = o.refused
	return nil
}

// paidAs calls and expects that the payment is done.
func (d *demo) paidAs(ctx context.Context, a *agent, amount, account string) error {
	o, err := d.pay(ctx, a, amount, account)
	if err != nil {
		return err
	}
	if o.refused != nil {
		return fmt.Errorf("it was refused: %s", o.refused.words)
	}
	if o.payment.Amount != amount || o.payment.CreditorAccount != account || o.payment.Status != "executed" {
		return fmt.Errorf("something else was paid: %+v", o.payment)
	}
	return nil
}

func (d *demo) refusedWithoutApproval(ctx context.Context) error {
	d.say("The agent's token says: this is Alice's agent, it may use payments (scope \"payments\").")
	d.say("The bank's policy wants more: Alice's approval of each payment.")
	return d.refusedFor(ctx, d.web, price, payee)
}

// newToken plays the customer and the issuer: all that the hint asks for is
// approved, and nothing else.
func (d *demo) newToken() (string, error) {
	if d.hint == nil {
		return "", errors.New("there is nothing to approve: no refusal said what is missing")
	}
	d.say("agent:  asks the issuer for a token for what the refusal named, word for word")
	d.say("issuer: asks Alice; Alice approves (the demo says yes for her, a real issuer asks)")
	d.say("issuer: here is a token for that payment only")
	d.raw(string(d.hint.details))
	return d.authority.grant([]string{"payments"}, d.hint.details), nil
}

func (d *demo) approve(context.Context) error {
	token, err := d.newToken()
	if err == nil {
		d.purse.token.Store(token)
	}
	return err
}

func (d *demo) paid(ctx context.Context) error { return d.paidAs(ctx, d.web, price, payee) }

func (d *demo) refusedPayment(ctx context.Context, amount, account string) error {
	err := d.refusedFor(ctx, d.web, amount, account)
	if err == nil {
		d.say("The token stays what it was: %s EUR to %s.", price, payee)
	}
	return err
}

func (d *demo) blocked(ctx context.Context) error {
	o, err := d.pay(ctx, d.web, "1.00", blockedPayee)
	if err != nil {
		return err
	}
	if o.refused == nil || !o.refused.final || len(o.refused.details) > 0 || !strings.Contains(o.refused.words, "blocked") {
		return fmt.Errorf("expected a refusal for good: %s", o.raw)
	}
	d.say("The policy's words: %s", o.refused.words)
	d.say("No approval would help, so the agent is told of none.")
	return nil
}

// status also shows the other kind of hint: a permission (scope) is missing.
func (d *demo) status(ctx context.Context) error {
	d.say("agent:  what became of pay-1?")
	o, err := d.tell(d.web.call(ctx, toolStatus, map[string]string{"paymentId": "pay-1"}))
	if err != nil {
		return err
	}
	if o.refused == nil || len(o.refused.scopes) != 1 || o.refused.scopes[0] != "payments:read" {
		return fmt.Errorf("expected to be refused for want of payments:read: %s", o.raw)
	}
	d.approval(o.refused)
	d.say("issuer: granted")
	d.purse.token.Store(d.authority.grant(append([]string{"payments"}, o.refused.scopes...), nil))
	d.say("agent:  what became of pay-1?")
	o, err = d.tell(d.web.call(ctx, toolStatus, map[string]string{"paymentId": "pay-1"}))
	if err != nil {
		return err
	}
	if o.refused != nil || o.payment.Amount != price {
		return fmt.Errorf("the bank did not tell of pay-1: %s", o.raw)
	}
	d.say("agent:  is there a pay-2?")
	o, err = d.web.call(ctx, toolStatus, map[string]string{"paymentId": "pay-2"})
	d.raw(o.raw)
	if err == nil || !strings.Contains(err.Error(), "no such payment") {
		return fmt.Errorf("expected that there is no second payment: %s, %v", o.raw, err) //nolint:errorlint // shown, not examined
	}
	d.say("bank:   no such payment. One was made, the refused ones were not.")
	return nil
}

func (d *demo) refusedOverStdio(ctx context.Context) error {
	d.tokenFile = filepath.Join(d.dir, "token")
	token := d.authority.grant([]string{"payments"}, nil)
	if err := os.WriteFile(d.tokenFile, []byte(token), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, d.bankBinary(), //nolint:gosec // a binary that the demo has just built
		append(d.bankArgs(), "-stdio", "-token-file", d.tokenFile)...)
	cmd.Env = append(os.Environ(), d.bankEnv()...)
	cmd.Stderr = d.logs
	var err error
	if d.local, err = connect(ctx, &mcp.CommandTransport{Command: cmd, TerminateDuration: 2 * time.Second}); err != nil {
		return err
	}
	d.say("The agent starts the bank's server itself and talks to its stdin and stdout (MCP %s).", d.local.version())
	d.say("There are no HTTP statuses here, so the refusal is a tool result with the same content.")
	return d.refusedFor(ctx, d.local, "75.50", payee)
}

func (d *demo) paidOverStdio(ctx context.Context) error {
	token, err := d.newToken()
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.tokenFile, []byte(token), 0o600); err != nil {
		return err
	}
	d.purse.token.Store(token) // for the last step
	return d.paidAs(ctx, d.local, "75.50", payee)
}

// undecided: the token is one that paid a moment ago.
func (d *demo) undecided(ctx context.Context) error {
	d.authzd.stop()
	d.say("The agent still has a token for this very payment.")
	if d.local == nil {
		return errors.New("there is no server over stdio")
	}
	for _, a := range []*agent{d.web, d.local} {
		o, err := d.pay(ctx, a, "75.50", payee)
		var rpc *jsonrpc.Error
		if !errors.As(err, &rpc) || !strings.Contains(rpc.Message, "could not be authorized") {
			return fmt.Errorf("expected no decision and no payment: %s, %v", o.raw, err) //nolint:errorlint // shown, not examined
		}
		d.say("bank:   %s", rpc.Message)
	}
	return nil
}
