"""The trained router behind HTTP: POST /route, POST /next, GET /healthz, GET /metrics, and a page to try prompts on.

Needs the extra `serve` (FastAPI, uvicorn and prometheus_client). Nothing is loaded when this room is imported.
"""
