"""The figures of the documents, made from `benchmarks/results/`.

`python -m benchmarks.figures` says where a document and the results differ; `--write` mends it.
Tables stand between `<!-- figures: NAME -->` and `<!-- /figures -->` and are rendered by
`benchmarks.figures.tables`; sentences with figures are listed in `claims.yaml`; all other numbers
are accounted for in `accounted.yaml`.
"""
