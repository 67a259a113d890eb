from preprocessing.flickr.command.command import main

main()
