"""Pictures of concepts: colours, overlays and the templates of pages."""
