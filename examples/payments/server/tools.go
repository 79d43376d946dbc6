package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The tools know nothing of authorization. Their arguments are those that the
// policy bundle declares.

type initiateArgs struct {
	Amount          string `json:"amount" jsonschema:"decimal in units of the currency, as text"`
	Currency        string `json:"currency" jsonschema:"EUR, GBP or USD"`
	CreditorAccount string `json:"creditorAccount" jsonschema:"IBAN in capitals without spaces"`
	CreditorName    string `json:"creditorName,omitempty"`
	DebtorAccount   string `json:"debtorAccount,omitempty" jsonschema:"IBAN of the account to debit"`
	Reference       string `json:"reference,omitempty" jsonschema:"text for the payee's statement"`
}

type statusArgs struct {
	PaymentID string `json:"paymentId"`
}

type payment struct {
	PaymentID       string `json:"paymentId"`
	Status          string `json:"status"`
	Amount          string `json:"amount"`
	Currency        string `json:"currency"`
	CreditorAccount string `json:"creditorAccount"`
}

// ledger is where a bank would be. It is safe for concurrent use.
type ledger struct {
	mu       sync.Mutex
	payments []payment
}

func (l *ledger) initiate(_ context.Context, _ *mcp.CallToolRequest, in initiateArgs) (*mcp.CallToolResult, payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := payment{
		PaymentID: fmt.Sprintf("pay-%d", len(l.payments)+1),
		Status:    "executed",
		Amount:    in.Amount, Currency: in.Currency, CreditorAccount: in.CreditorAccount,
	}
	l.payments = append(l.payments, p)
	return nil, p, nil
}

func (l *ledger) status(_ context.Context, _ *mcp.CallToolRequest, in statusArgs) (*mcp.CallToolResult, payment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.payments {
		if p.PaymentID == in.PaymentID {
			return nil, p, nil
		}
	}
	return nil, payment{}, errors.New("no such payment")
}

func newServer(l *ledger) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "payments", Version: "1.0.0"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "payments.initiate", Description: "Pay an amount to an account."}, l.initiate)
	mcp.AddTool(s, &mcp.Tool{Name: "payments.status", Description: "Tell what became of a payment."}, l.status)
	return s
}
