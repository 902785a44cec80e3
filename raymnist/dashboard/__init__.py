"""Our page inside the Ray dashboard: `/raymnist`, behind the same token.

Ray has no official way for such a page. Its dashboard loads every module of the package `ray.dashboard.modules`; so the
process that is to have the page is started by `process.py`, which adds the folder `modules` to it. This is done
where somebody asks for it, with `raymnist run --dashboard`, `raymnist dashboard RESULTS` or
`python -m raymnist.dashboard start --head`, and in no other process.
"""
