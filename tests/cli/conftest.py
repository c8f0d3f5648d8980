"""The small router and the service, as the tests of the service make them."""

from tests.service.conftest import minilm_folder, router_folder, search_folder, start

__all__ = ["minilm_folder", "router_folder", "search_folder", "start"]
