"""Entry for existing label-studio-ml deployments: `gunicorn backend._wsgi:app`.

Our own server, `python -m backend`, answers faster; this one exists so that the class can be
dropped into what is there.
"""

from label_studio_ml.api import init_app

from backend.model import GuideBackend, app_options
from backend.settings import Settings

app = init_app(GuideBackend, **app_options(Settings()))
