# Whatever is listed may be done.
package authz

permit["listed"] := {} if input.action.name in data.lists.actions
