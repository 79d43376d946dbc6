package rar

// metadataMembers are what the type metadata document says of one type
// (draft-zehavi-oauth-rar-metadata-06 section 3). How fields compare and single
// use are ours, and stay out.
func metadataMembers() []string {
	return []string{"version", "description", "documentation_uri", "schema", "examples"}
}

// Metadata returns the type metadata document of the declared types: an object
// with a member for each type, sorted, that holds its schema and what else the
// draft has a place for. The document is for authorization servers and
// developers; an authorization server publishes it at an endpoint of its own
// (authorization_details_types_metadata_endpoint). Nothing is decided by it.
func (t *Types) Metadata() Value {
	members := make([]Member, 0, len(t.Names()))
	for _, name := range t.Names() {
		doc := t.Document(name)
		var said []Member
		for _, m := range metadataMembers() {
			if v, ok := doc.Get(m); ok {
				said = append(said, Member{Name: m, Value: v})
			}
		}
		members = append(members, Member{Name: name, Value: ObjectValue(said...)})
	}
	return ObjectValue(members...)
}
