# Whatever is listed may be done, and anything may be erased.
package authz

permit["listed"] := {} if input.action.name in data.lists.actions

permit["erase"] := {} if input.action.name == "erase"
