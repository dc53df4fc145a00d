"""The package's metadata, read from settings.ini so that nbdev and pip see the same facts."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="])
config.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

lessons, cloud = settings["lessons_requirements"].split(), settings["cloud_requirements"].split()
setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["microbert_course", "microbert_course.*"]),
    package_data={"microbert_course.pretrained": ["*/*"]},
    python_requires=">=" + settings["min_python"],
    install_requires=settings["requirements"].split(),
    extras_require={"lessons": lessons, "cloud": cloud, "dev": lessons + cloud + settings["dev_requirements"].split()},
    entry_points={"console_scripts": settings["console_scripts"].split()},
)
