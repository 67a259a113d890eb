from preprocessing.flickr.command import main

main()
