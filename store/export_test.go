package store

import "context"

// Exec changes the database behind the store's back.
func Exec(s *Store, statement string) error {
	_, err := s.write.ExecContext(context.Background(), statement)
	return err
}
