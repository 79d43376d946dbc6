package authz

default permit := {"p": {}}
