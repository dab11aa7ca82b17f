"""The book: vocabulary (pure), journal and reader, projections, reports. Knows no HTTP and no engine."""
