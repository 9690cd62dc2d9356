"""Entry for existing label-studio-ml deployments: `gunicorn backend._wsgi:app`.

Our own server, `python -m backend`, answers faster; this one exists so that the class can be
dropped into what is there.
"""

import logging

from label_studio_ml import api

from backend.model import GuideBackend, app_options
from backend.serving.access import Access, WsgiGuard, check_listening
from backend.settings import Settings

_settings = Settings()
check_listening(_settings.model_copy(update={"host": "0.0.0.0"}))  # noqa: S104 - gunicorn's is not known
logging.getLogger(api.__name__).setLevel(logging.INFO)  # below, it logs headers, passwords and all
app = api.init_app(GuideBackend, **app_options(_settings))
app.wsgi_app = WsgiGuard(app.wsgi_app, Access(_settings))
