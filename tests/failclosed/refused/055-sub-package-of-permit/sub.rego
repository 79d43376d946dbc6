package authz.permit

extra := {}
